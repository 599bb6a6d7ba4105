"""EnCodec, DAC, Mimi: equal to transformers where that is right, and right where it is not."""

import pytest
import torch
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

from photophone import Tokens
from photophone.codecs.bicodec.model import BiCodec, normalize_volume
from photophone.codecs.dac import model as dac
from photophone.codecs.dac.model import DAC
from photophone.codecs.encodec.model import BANDWIDTH_BOOKS, EnCodec, VocosEnCodec
from photophone.codecs.mimi.keys import from_kyutai
from photophone.codecs.mimi.model import Mimi
from photophone.loading.registry import find

TINY = {name: find(name).tiny for name in ("encodec-24khz-6kbps", "dac-44khz", "mimi-8", "vocos-encodec-24khz-6kbps")}


def randomise(model, scale=0.3):
    """Transformers leaves codebooks at zero."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("embed", "embed_sum")) or "layer_scale" in name:
            value.data.copy_(torch.randn(value.shape, generator=generator))
        elif value.is_floating_point() and value.dim() and isinstance(value, torch.nn.Parameter):
            value.data.add_(torch.randn(value.shape, generator=generator), alpha=scale * 0.1)
    return model.eval()


def sound(rows, length):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, 1, length, generator=generator) / 4


@pytest.fixture(scope="module")
def encodec():
    torch.manual_seed(0)
    return randomise(EncodecModel(EncodecConfig(**TINY["encodec-24khz-6kbps"]["settings"])))


@pytest.fixture(scope="module")
def descript():
    torch.manual_seed(0)
    return randomise(DacModel(DacConfig(**TINY["dac-44khz"]["settings"])), 0.03)


@pytest.fixture(scope="module")
def mimi():
    torch.manual_seed(0)
    return randomise(MimiModel(MimiConfig(**TINY["mimi-8"]["settings"])))


@torch.no_grad()
def test_encodec_is_that_of_transformers_and_padding_does_not_reach_it(encodec):
    model = EnCodec.from_original(encodec.state_dict(), **TINY["encodec-24khz-6kbps"])
    hop = model.hop_length
    audio, lengths = sound(3, 14 * hop), torch.tensor([14 * hop, 9 * hop - 5, 12 * hop])
    tokens = model.encode(audio, lengths)
    decoded = model.decode(tokens)
    for row, length in enumerate(lengths.tolist()):
        alone = torch.nn.functional.pad(audio[row:row + 1, :, :length], (0, -length % hop))
        codes = encodec.encode(alone, bandwidth=80.0).audio_codes[0]  # the last of target_bandwidths: all books
        count = codes.shape[-1]
        assert torch.equal(tokens.values[row:row + 1, :, :count], codes[:, :model.num_codebooks])
        theirs = encodec.decode(codes[None, :, :model.num_codebooks], [None]).audio_values
        torch.testing.assert_close(decoded[row:row + 1, :, :count * hop], theirs, rtol=1e-4, atol=1e-5)


def test_stereo_encodec_is_refused():
    with pytest.raises(ValueError, match="24 kHz"):
        EnCodec(settings={**TINY["encodec-24khz-6kbps"]["settings"], "audio_channels": 2})
    with pytest.raises(ValueError, match="num_codebooks must lie in 1"):
        EnCodec(**{**TINY["encodec-24khz-6kbps"], "num_codebooks": 500})


@torch.no_grad()
def test_vocos_reads_the_codes_of_encodec(encodec):
    torch.manual_seed(1)
    config = {**TINY["vocos-encodec-24khz-6kbps"], "num_codebooks": 4}
    made = VocosEnCodec(**config)
    official = {key.replace("codebooks", "feature_extractor.codebook_weights"): value.clone()
                for key, value in made.state_dict().items() if not key.startswith("model.")}
    with pytest.raises(ValueError, match="encodec=PATH"):
        VocosEnCodec.from_original(official, **config)
    model = VocosEnCodec.from_original(official, encodec=encodec.state_dict(), **config)
    tokens = model.encode(sound(1, 9 * model.hop_length))
    size = model.codebook_size
    features = sum(model.codebooks[tokens.values[:, book] + book * size] for book in range(4))  # (1, N, C)
    told = torch.tensor([BANDWIDTH_BOOKS.index(4)])
    expected = model.head(model.backbone(features.transpose(1, 2), told))
    torch.testing.assert_close(model.decode(tokens)[:, 0], expected)
    assert torch.equal(tokens.values, EnCodec.from_original(encodec.state_dict(), num_codebooks=4,
                                                            settings=config["settings"]).encode(
                                                                sound(1, 9 * model.hop_length)).values)


@torch.no_grad()
def test_dac_is_that_of_transformers_and_keeps_the_length(descript):
    model = DAC.from_original(descript.state_dict(), **{**TINY["dac-44khz"], "chunk_frames": None})
    audio = sound(2, 23 * model.hop_length)
    tokens = model.encode(audio)
    assert torch.equal(tokens.values, descript.encode(audio).audio_codes)
    theirs = descript.decode(audio_codes=tokens.values).audio_values[:, None]
    assert theirs.shape[-1] < audio.shape[-1]  # odd strides lose samples
    decoded = model.decode(tokens)
    assert decoded.shape == audio.shape
    torch.testing.assert_close(decoded[..., :theirs.shape[-1]], theirs)
    assert not decoded[..., theirs.shape[-1]:].any()


@pytest.mark.parametrize("chunk", [1, 7, 40])
@torch.no_grad()
def test_dac_in_chunks_is_the_whole(descript, chunk):
    whole, chunked = (DAC.from_original(descript.state_dict(), **{**TINY["dac-44khz"], "chunk_frames": frames})
                      for frames in (None, chunk))
    audio = sound(1, 61 * whole.hop_length)
    tokens = whole.encode(audio)
    assert torch.equal(chunked.encode(audio).values, tokens.values)
    torch.testing.assert_close(chunked.decode(tokens), whole.decode(tokens), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strides", [[2, 5], [3], [2, 4, 8, 8]])
def test_chunks_overlap_by_what_dac_sees(strides):
    torch.manual_seed(0)
    settings = {**TINY["dac-44khz"]["settings"], "downsampling_ratios": strides}
    model = DacModel(DacConfig(**settings)).eval()
    hop, middle = model.config.hop_length, 40
    audio = sound(1, 81 * hop).requires_grad_()
    model.encoder(audio)[..., middle].sum().backward()
    seen = audio.grad[0, 0].nonzero()[:, 0]
    first, last = int(seen.min()) // hop, int(seen.max()) // hop
    reach = dac.encoder_reach(strides)
    assert max(middle - first, last - middle) <= reach <= max(middle - first, last - middle) + 2
    latents = torch.randn(1, model.config.hidden_size, 81, requires_grad=True)
    model.decoder(latents)[..., middle * hop:(middle + 1) * hop].sum().backward()
    seen = latents.grad.abs().sum((0, 1)).nonzero()[:, 0]
    width = max(middle - int(seen.min()), int(seen.max()) - middle)
    assert width <= dac.decoder_reach(strides[::-1]) <= width + 2


@torch.no_grad()
def test_mimi_is_that_of_transformers_and_streams_beyond_its_window(mimi):
    model = Mimi.from_original(mimi.state_dict(), **TINY["mimi-8"])
    audio = sound(2, 17 * model.hop_length)
    tokens = model.encode(audio)
    assert torch.equal(tokens.values, mimi.encode(audio, num_quantizers=3).audio_codes)
    whole = model.decode(tokens)
    torch.testing.assert_close(whole, mimi.decode(tokens.values).audio_values, rtol=1e-4, atol=1e-5)
    assert model.mimi_config.sliding_window < 17 * 2
    with model.streaming(2):
        parts = [model.decode(Tokens(part)) for part in tokens.values.split([1, 1, 4, 1, 7, 3], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole, rtol=1e-4, atol=1e-5)


def test_mimi_encodes_in_chunks_beyond_its_window(mimi):
    model = Mimi.from_original(mimi.state_dict(), **TINY["mimi-8"])
    audio = sound(2, 17 * model.hop_length)
    with model.streaming(2):
        parts = [model.encode(part).values
                 for part in audio.split([count * model.hop_length for count in (1, 1, 4, 1, 7, 3)], dim=-1)]
    assert torch.equal(torch.cat(parts, dim=-1), mimi.encode(audio, num_quantizers=3).audio_codes)


def test_kyutais_own_files_of_mimi_turn_neighbouring_channels(mimi):
    """Queries and keys whose neighbours turn together score as ours, whose halves do."""
    heads, length = 2, 6
    packed = torch.randn(48, 16, generator=torch.Generator().manual_seed(1))
    state = from_kyutai({"encoder_transformer.transformer.layers.0.self_attn.in_proj_weight": packed},
                        {"num_attention_heads": heads})
    x = torch.randn(length, 16, generator=torch.Generator().manual_seed(2))
    angles = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)

    def turned(rows, neighbours):
        pairs = (x @ rows.T).unflatten(1, (heads, 4, 2) if neighbours else (heads, 2, 4))
        first, second = pairs.unbind(-1 if neighbours else -2)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)

    own = [state[f"encoder_transformer.layers.0.self_attn.{name}_proj.weight"] for name in "qk"]
    scores = [torch.einsum("qhpc,khpc->hqk", *(turned(rows, neighbours) for rows in pair))
              for pair, neighbours in ((packed.chunk(3)[:2], True), (own, False))]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)
    assert torch.equal(state["encoder_transformer.layers.0.self_attn.v_proj.weight"], packed[32:])


def test_volume_normalisation_keeps_silence_and_limits_the_gain():
    assert not normalize_volume(torch.zeros(100)).any()
    time = torch.arange(16000) / 16000
    tone = torch.sin(2 * torch.pi * 200 * time)
    loud = normalize_volume(0.9 * tone)
    assert float(loud.abs().sort().values[14400:15840].mean()) == pytest.approx(0.2, abs=2e-2)
    assert float(normalize_volume(0.011 * tone).abs().max()) <= 1


def test_bicodec_without_features_only_decodes():
    config = {key: value for key, value in find("bicodec-spark-tts-0.5b").tiny.items() if key != "features"}
    torch.manual_seed(0)
    model = BiCodec(**config).eval()
    codes = torch.randint(0, 16, (2, 9))
    assert model.decode(Tokens(codes)).shape == (2, 1, (9 - model.num_voice_tokens) * model.hop_length)
    with pytest.raises(ValueError, match="only decodes"):
        model.encode(sound(1, 400))
    with pytest.raises(ValueError, match="voice codes below 16"):
        model.decode(Tokens(codes + 16))
    with pytest.raises(ValueError, match="wav2vec2=PATH"):
        BiCodec.from_original(model.state_dict(), **config, features=find("bicodec-spark-tts-0.5b").tiny["features"])


def test_short_bicodec_references_are_repeated():
    config = {key: value for key, value in find("bicodec-spark-tts-0.5b").tiny.items() if key != "features"}
    model = BiCodec(**config)  # 0.02 s of 16 kHz in whole hops of 16
    made = model.reference(torch.arange(1.0, 101)[None])
    assert made.shape == (1, 320) and made[0, 100] == 1 and made[0, 319] == 20
