"""What every registered codec must do: a codec is tested by being registered."""

import pickle
from dataclasses import replace

import pytest
import torch
from tiny import Hostile, shake

from photophone import Tokens, create_model, list_models
from photophone.loading.registry import find

CODECS = [entry.name for entry in list_models("codec")]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
_BUILT = {}


def build(name):
    """The registered codec, made small where its entry says how, with random weights, built once."""
    if name not in _BUILT:
        torch.manual_seed(0)
        _BUILT[name] = shake(create_model(name, **find(name).tiny), scale=0.02)
    return _BUILT[name]


def waves(model, rows=3, hops=9):
    """Sums of sines with a slow envelope, whole hops long."""
    length = hops * model.hop_length
    time = torch.arange(length) / model.sample_rate
    generator = torch.Generator().manual_seed(2)
    pitch = 100 + 300 * torch.rand(rows, 4, 1, generator=generator)
    tones = torch.sin(2 * torch.pi * pitch * time).sum(1, keepdim=True) / 8
    return tones + 0.02 * torch.randn(rows, 1, length, generator=generator)


@pytest.mark.parametrize("name", CODECS)
def test_saved_weights_give_bit_equal_outputs(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    for (key, ours), (_, loaded) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(ours, loaded), key
    tokens = model.encode(waves(model))
    assert torch.equal(again.encode(waves(model)).values, tokens.values)
    assert torch.equal(again.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("name", CODECS)
def test_tokens_agree_with_the_properties(name):
    model = build(name)
    audio = waves(model)
    tokens = model.encode(audio)
    expected = int(model.token_lengths(torch.tensor([audio.shape[-1]])))
    if model.codebook_size is None:
        assert tokens.values.shape == (3, expected, model.token_dim)
    else:
        books = () if model.num_codebooks == 1 else (model.num_codebooks,)
        assert tokens.values.shape == (3, *books, expected)
        assert int(tokens.values.min()) >= 0 and int(tokens.values.max()) < model.codebook_size
    assert model.frame_rate == pytest.approx(model.sample_rate / model.hop_length)
    decoded = model.decode(tokens)
    assert decoded.shape == (3, 1, int(model.audio_lengths(tokens)[0])) and decoded.dtype == torch.float32
    assert bool(decoded.isfinite().all()) and float(decoded.abs().max()) > 0


@pytest.mark.parametrize("name", CODECS)
def test_a_padded_batch_equals_its_rows(name):
    model = build(name)
    audio = waves(model, 3, 9)
    lengths = torch.tensor([9, 5, 7]) * model.hop_length - torch.tensor([0, 3, 0])
    for row, length in enumerate(lengths.tolist()):
        audio[row, :, length:] = 0.7  # rubbish behind the end must not be heard
    tokens = model.encode(audio, lengths)
    assert torch.equal(tokens.lengths, model.token_lengths(lengths))
    decoded = model.decode(tokens)
    for row, length in enumerate(lengths.tolist()):
        alone = model.encode(audio[row:row + 1, :, :length])
        count = alone.num_tokens
        padded = tokens.values[row:row + 1, :count] if tokens.is_continuous else tokens.values[row:row + 1, ..., :count]
        torch.testing.assert_close(padded, alone.values, **CLOSE)
        samples = int(model.audio_lengths(alone)[0])
        torch.testing.assert_close(decoded[row:row + 1, :, :samples], model.decode(alone), **CLOSE)
        assert not decoded[row, :, samples:].any()


@pytest.mark.parametrize("name", CODECS)
def test_chunks_decode_to_the_whole(name):
    model = build(name)
    tokens = model.encode(waves(model, 2, 9 * model.stream_chunk))
    if not model.streams:
        with pytest.raises(ValueError, match="cannot stream"), model.streaming():
            pass
        return
    one_book = tokens.values.dim() == 2
    values = tokens.values if tokens.is_continuous or one_book else tokens.values.transpose(1, 2)  # time second
    parts = []
    with model.streaming(2):
        sizes = [size * model.stream_chunk for size in (1, 3, 2, 1)]
        for part in values.split([*sizes, values.shape[1] - sum(sizes)], dim=1):
            chunk = Tokens(part if tokens.is_continuous or one_book else part.transpose(1, 2))
            parts.append(model.decode(chunk))
    torch.testing.assert_close(torch.cat(parts, dim=-1), model.decode(tokens), **CLOSE)
    torch.testing.assert_close(model.decode(tokens), model.decode(tokens), rtol=0, atol=0)  # no state stays behind


@pytest.mark.parametrize("name", CODECS)
def test_chunks_encode_to_the_whole(name):
    """Chunks of clips of whole hops; only the last one may be shorter."""
    model = build(name)
    if not model.streams_encode:
        return
    step = model.stream_chunk * model.hop_length
    audio = waves(model, 2, 9 * model.stream_chunk)[..., :-step // 2]
    whole = model.encode(audio).values
    with model.streaming(2):
        parts = [model.encode(part).values for part in audio.split([step, 3 * step, audio.shape[-1] - 4 * step], -1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)
    torch.testing.assert_close(model.encode(audio).values, whole, rtol=0, atol=0)  # no state stays behind


def test_the_causal_families_stream():
    """What must not be lost: each decodes in chunks, and those with a causal encoder encode in chunks."""
    streams = {name for name in CODECS if build(name).streams}
    encodes = {name for name in CODECS if build(name).streams_encode}
    causal = {name for name in CODECS if name.startswith("focalcodec-causal")}
    vae = {name for name in CODECS if name.startswith("voxcpm-vae")}
    assert streams >= causal | vae | {"mimi-8", "mimi-32", "stream-codec"} and len(causal) == len(vae) == 3
    assert encodes >= causal | vae


@pytest.mark.parametrize("name", CODECS)
def test_tokens_of_another_codec_or_rate_are_refused(name):
    model = build(name)
    tokens, before = model.encode(waves(model, 1)), model.config.get("_name_or_path")
    model.register_to_config(_name_or_path="someone/this-codec")
    try:
        for change, words in (({"model": "someone/another-codec"}, "were made by someone/another-codec"),
                              ({"sample_rate": model.sample_rate + 1}, f"this codec reads {model.sample_rate}")):
            with pytest.raises(ValueError, match=words):
                model.decode(replace(tokens, **change))
        same = replace(tokens, model="someone/this-codec", sample_rate=model.sample_rate)
        assert torch.equal(model.decode(same), model.decode(tokens))
    finally:
        model.register_to_config(_name_or_path=before)


@pytest.mark.parametrize("name", CODECS)
def test_wrong_audio_and_tokens_are_refused(name):
    model = build(name)
    audio = waves(model)
    nan = audio.clone()
    nan[1, 0, 0] = torch.nan
    for bad, words in [(audio[0], "shape"), (audio.repeat(1, 2, 1), "shape"), (audio[..., :0], "shape"),
                       (audio.short(), "int16"), (nan, "NaN")]:
        with pytest.raises(ValueError, match=words):
            model.encode(bad)
    with pytest.raises(ValueError, match="lengths must lie in"):
        model.encode(audio, torch.tensor([1, 2, audio.shape[-1] + 1]))
    values = model.encode(audio).values
    if model.codebook_size is None:
        nan = values.clone()
        nan[0, 0, 0] = torch.nan
        wrong = [(values[..., 1:], "decodes float"), (nan, "NaN"), (torch.zeros(3, 4).long(), "decodes float")]
    else:
        high, low = values.clone(), values.clone()
        high[0, ..., 0], low[-1, ..., -1] = model.codebook_size, -1
        wrong = [(torch.zeros(3, 4, 8), "decodes Long"), (high, "codes must lie in"), (low, "codes must lie in")]
    for tokens, words in wrong:
        with pytest.raises(ValueError, match=words):
            model.decode(Tokens(tokens))


@pytest.mark.parametrize("name", CODECS)
def test_codecs_run_in_bfloat16(name, tmp_path):
    build(name).save_pretrained(tmp_path)
    model = type(build(name)).from_pretrained(tmp_path, dtype=torch.bfloat16)
    decoded = model.decode(model.encode(waves(model)))
    assert decoded.dtype == torch.float32 and bool(decoded.isfinite().all())


@pytest.mark.parametrize("name", CODECS[:1])
def test_hostile_weights_do_not_run(name, tmp_path):
    model, marker = build(name), tmp_path / "code-ran"
    model.save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    with pytest.raises((OSError, ValueError, pickle.UnpicklingError)):
        type(model).from_pretrained(tmp_path)
    assert not marker.exists()
