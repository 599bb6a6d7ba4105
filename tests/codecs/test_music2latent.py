"""Music2Latent: lengths, noise, chunks, and official keys of other sizes."""

import pytest
import torch
from tiny import shake

from photophone import Tokens
from photophone.codecs.music2latent import ENTRIES
from photophone.codecs.music2latent.model import Music2Latent, in_chunks
from photophone.core.noise import ReplayNoise, SeededNoise

TINY = ENTRIES[0].tiny
OTHER = {**TINY, "stft_hop": 8, "multipliers": [1, 3, 2, 2], "layers": [1, 0, 2, 1], "encoder_layers": [2, 1, 1, 3],
         "attention": [True, False, False, True], "encoder_attention": [False, True, False, False],
         "frequency_only": [False, False, False], "hidden_layers": 2, "heads": 4}


def build(**changes):
    torch.manual_seed(0)
    return shake(Music2Latent(**{**TINY, **changes}), scale=0.02)


def audio_of(samples, rows=1):
    return torch.rand(rows, 1, samples, generator=torch.Generator().manual_seed(1)) - 0.5


def official_names(prefix, stages, joined):
    """(our prefix, official prefix) of the layers of a flat official list, in their order."""
    layers = []
    for number, stage in enumerate(stages):
        for place in range(len(stage.blocks)):
            layers += [f"{number}.joins.{place}."] if joined else []
            layers.append(f"{number}.blocks.{place}.")
        if number < len(stages) - 1:
            layers.append(f"{number}.resample.")
    return [(ours, f"{prefix}{index}.") for index, ours in enumerate(layers)]


def as_official(model):
    """The weights of ``model`` under official keys, by counting layers from the model itself."""
    encoder, decoder, unet = model.encoder, model.decoder, model.unet
    table = [(f"{ours}{old}", new) for ours, stages, prefix, joined in [
        ("encoder.stages.", encoder.stages, "encoder.down_layers.", False),
        ("decoder.stages.", decoder.stages, "decoder.up_layers.", False),
        ("unet.down.", unet.down, "down_layers.", True), ("unet.up.", unet.up, "up_layers.", True)]
        for old, new in official_names(prefix, stages, joined)]
    table += [(f"encoder.blocks.{index}.", f"encoder.bottleneck_layers.{index + 1}.")
              for index in range(len(encoder.blocks))]
    table += [("encoder.proj_in.", "encoder.bottleneck_layers.0."), ("encoder.gain", "encoder.gain.scale"),
              ("encoder.norm_features.", "encoder.prenorm_1d_to_2d."),
              ("decoder.blocks.", "decoder.bottleneck_layers."),
              ("decoder.proj_out.", "decoder.conv_out_bottleneck."), ("unet.condition.", "emb_proj."),
              ("unet.gain_in.", "scale_inp."), ("unet.gain_out.", "scale_out."), ("unet.join_out.", "conv_decoded."),
              ("unet.", "")]
    inside = [(".conv_in.", ".conv_inp."), (".condition_in.", ".proj_emb."),
              (".shortcut.", ".res_conv."), (".attention.norm.", ".att.norm."),
              (".attention.mix.to_qkv.", ".att.mha.in_proj_"), (".attention.mix.to_out.", ".att.mha.out_proj.")]
    state = {}
    for key, value in model.state_dict().items():
        ours, theirs = next((pair for pair in table if key.startswith(pair[0])), ("", ""))
        new = theirs + key.removeprefix(ours)
        if ".resample." in ours:
            new = theirs + key.removeprefix(ours).replace("conv.", "c.")
        for old, official in inside:
            new = f".{new}".replace(old, official)[1:]
        state[new] = value
    return state


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["tiny", "other"])
def test_official_keys_of_any_size_load(changes):
    model = build(**changes)
    again = Music2Latent.from_original({"gen_state_dict": as_official(model)}, **{**TINY, **changes})
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    tokens = model.encode(audio_of(500))
    assert torch.equal(again.encode(audio_of(500)).values, tokens.values)
    assert torch.equal(again.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("changes", [{}, OTHER], ids=["tiny", "other"])
@pytest.mark.parametrize("samples", [1, 47, 48, 49, 80, 81, 300])
def test_no_sample_is_lost(changes, samples):
    model = build(**changes)
    tokens = model.encode(audio_of(samples))
    decoded = model.decode(tokens).shape[-1]
    step, fade = model.hop_length, 3 * model.config.stft_hop
    assert tokens.num_tokens == max(1, -(-(samples - fade) // step))
    assert decoded == int(model.audio_lengths(tokens)[0]) == tokens.num_tokens * step + fade >= samples


def test_a_clip_of_official_length_is_not_filled_up():
    model = build()
    for samples in range(40, 300):
        length = model.official_length(samples)
        if samples < 48 + model.hop_length:
            assert length == 0
            continue
        assert samples - model.hop_length < length <= samples
        count = int(model.token_lengths(torch.tensor([length])))
        assert length == count * model.hop_length + 48


def test_audio_depends_on_tokens_and_seed_only():
    model = build()
    tokens = model.encode(audio_of(300, 3))
    assert torch.equal(model.decode(tokens), model.decode(tokens))
    torch.testing.assert_close(model.decode(tokens[2]), model.decode(tokens)[2:], rtol=1e-4, atol=1e-5)
    seeded = model.decode_latents(tokens.values, SeededNoise.from_seeds([0] * 3))
    assert torch.equal(seeded, model.decode(tokens))
    other = model.decode_latents(tokens.values, SeededNoise.from_seeds([1] * 3))
    assert float((other - seeded).detach().abs().max()) > 1e-3


def test_rows_without_tokens_are_empty():
    model = build()
    tokens = Tokens(model.encode(audio_of(300, 2)).values, torch.tensor([0, 4]))
    decoded = model.decode(tokens)
    assert model.audio_lengths(tokens).tolist() == [0, decoded.shape[-1]]
    assert not decoded[0].any() and decoded[1].any()


def test_long_clips_run_in_chunks_that_know_nothing_of_each_other():
    whole, pieces = build(), build(chunk_samples=100)  # 3 tokens
    audio = audio_of(48 + 8 * whole.hop_length)
    tokens = pieces.encode(audio)
    short = audio[..., :48 + 3 * whole.hop_length]
    torch.testing.assert_close(tokens.values[:, :3], whole.encode(short).values, rtol=1e-4, atol=1e-4)
    assert tokens.values.shape == whole.encode(audio).values.shape
    frames = 3 * whole.levels.time_factor
    draws = [torch.randn(1, 2, 32, frames, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]
    noise = ReplayNoise(normal=draws)
    decoded = pieces.decode_latents(tokens.values, noise, num_steps=2)
    assert noise.exhausted and decoded.shape == audio.shape
    start = whole.decode_latents(tokens.values[:, :3], ReplayNoise(normal=draws[:2]), num_steps=2)
    torch.testing.assert_close(decoded[..., :96], start[..., :96], rtol=1e-4, atol=1e-5)


def test_the_last_chunk_is_filled_up_with_the_beginning():
    seen = []
    result = in_chunks(lambda part: seen.append(part.tolist()) or part[..., ::2], torch.arange(10)[None], 4, 1, 2)
    assert seen == [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9, 0, 1]]]
    assert result.tolist() == [[0, 2, 4, 6, 8]]


def test_wrong_settings_are_refused():
    for wrong, words in [({"layers": [1, 2]}, "layers needs a value"), ({"frequency_only": [True]}, "frequency_only"),
                         ({"stft_hop": 6}, "divided"), ({"chunk_samples": 31}, "chunk_samples"),
                         ({"num_steps": 0}, "num_steps"), ({"sigma_min": 0.0}, "noise levels"),
                         ({"channels": 2}, "cannot be normalised"), ({"exponent": 0.0}, "exponent")]:
        with pytest.raises(ValueError, match=words):
            Music2Latent(**{**TINY, **wrong})
    with pytest.raises(ValueError, match="use_fourier"):
        Music2Latent.convert_config({"use_fourier": True})
    assert Music2Latent.convert_config({"hop": 8, "attention_list": [0, 1], "batch_size": 3}) == \
        {"stft_hop": 8, "attention": [False, True]}


def test_the_entry_tells_the_parameters():
    with torch.device("meta"):
        model = Music2Latent()
    assert sum(weight.numel() for weight in model.parameters()) == ENTRIES[0].parameters
    assert (model.hop_length, model.token_dim, model.decoder.last_bins) == (4096, 64, 32)
