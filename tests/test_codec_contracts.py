"""What every registered codec must do: a codec is tested by being registered."""

import copy
import inspect
import pickle
from dataclasses import replace

import pytest
import torch
from elsewhere import AWAY, Elsewhere
from tiny import Hostile, build, distinct

from photophone import Tokens, create_model, list_models
from photophone.codecs.base import AudioCodec
from photophone.codecs.vocoder import Vocoder
from photophone.loading.registry import find

CODECS = distinct("codec")
STREAMS = [name for name in CODECS if build(name).streams]
ENCODES = [name for name in CODECS if build(name).streams_encode]
TRAINS = [name for name in CODECS if build(name).trains]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


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
def test_tokens_say_where_they_come_from(name):
    model = build(name)
    audio = waves(model, 2)
    tokens = model.encode(audio)
    assert tokens.sample_rate == model.sample_rate and tokens.lengths is None
    lengths = torch.tensor([audio.shape[-1], audio.shape[-1] - model.hop_length])
    assert torch.equal(model.encode(audio, lengths).lengths, model.token_lengths(lengths))


@pytest.mark.parametrize("name", CODECS)
def test_a_model_on_another_device_moves_what_it_is_given(name):
    model = build(name)
    audio = waves(model, 2)
    lengths = torch.tensor([audio.shape[-1], audio.shape[-1] - 2 * model.hop_length])
    tokens = model.encode(audio, lengths)
    wave = model.decode(tokens)
    with Elsewhere():
        far = copy.deepcopy(model).to(AWAY)
        made, drawn = far.encode(audio, lengths), far.decode(tokens)
        assert made.values.device == made.lengths.device == drawn.device == AWAY
        torch.testing.assert_close(made.to("cpu").values, tokens.values, **CLOSE)
        torch.testing.assert_close(drawn.to("cpu"), wave, **CLOSE)


@pytest.mark.parametrize("name", CODECS)
def test_encode_and_decode_keep_no_gradients(name):
    model = build(name)
    tokens = model.encode(waves(model, 1).requires_grad_(True))
    assert not tokens.values.requires_grad and not model.decode(tokens).requires_grad


def test_families_leave_the_checks_to_the_base():
    for entry in {entry.target: entry for entry in list_models("codec")}.values():
        family = entry.load_class()
        assert family.encode is AudioCodec.encode and family.decode is Vocoder.decode
        assert set(inspect.signature(family._encode).parameters) == {"self", "audio", "lengths"}
        own = set(inspect.signature(family._decode).parameters) - {"self", "tokens"}
        assert own == set(family.decode_options), family
        assert family.trains == (family.forward is not AudioCodec.forward)


@pytest.mark.parametrize("name", CODECS)
def test_unknown_options_are_refused(name):
    model = build(name)
    with pytest.raises(TypeError, match="takes no colour"):
        model.decode(model.encode(waves(model, 1)), colour=1)


def pieces_of(tokens, model):
    """The tokens in pieces of several sizes."""
    axis = 1 if tokens.is_continuous else -1
    sizes = [size * model.stream_chunk for size in (1, 3, 2, 1)]
    return [Tokens(part) for part in tokens.values.split([*sizes, tokens.num_tokens - sum(sizes)], dim=axis)]


@pytest.mark.parametrize("name", STREAMS)
def test_pieces_stream_to_the_whole(name):
    model = build(name)
    tokens = model.encode(waves(model, 2, 9 * model.stream_chunk))
    parts = list(model.stream(pieces_of(tokens, model)))
    torch.testing.assert_close(torch.cat(parts, dim=-1), model.decode(tokens), **CLOSE)
    torch.testing.assert_close(model.decode(tokens), model.decode(tokens), rtol=0, atol=0)  # no state stays behind
    assert not list(model.stream([]))


@pytest.mark.parametrize("name", [name for name in STREAMS if not build(name).delay])
def test_chunks_decode_to_the_whole(name):
    model = build(name)
    tokens = model.encode(waves(model, 2, 9 * model.stream_chunk))
    with model.streaming(2):
        parts = [model.decode(piece) for piece in pieces_of(tokens, model)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), model.decode(tokens), **CLOSE)


@pytest.mark.parametrize("name", CODECS)
def test_models_that_cannot_stream_say_so(name):
    model = build(name)
    if not model.streams or model.delay:
        with pytest.raises(ValueError, match="cannot stream"), model.streaming():
            pass
    if not model.streams:
        with pytest.raises(ValueError, match="cannot stream"):
            next(model.stream([model.encode(waves(model, 1))]))
    assert not model.delay or model.streams


@pytest.mark.parametrize("name", ENCODES)
def test_chunks_encode_to_the_whole(name):
    """Chunks of clips of whole hops; only the last one may be shorter."""
    model = build(name)
    step = model.stream_chunk * model.hop_length
    audio = waves(model, 2, 9 * model.stream_chunk)[..., :-step // 2]
    whole = model.encode(audio).values
    with model.streaming(2):
        parts = [model.encode(part).values for part in audio.split([step, 3 * step, audio.shape[-1] - 4 * step], -1)]
    torch.testing.assert_close(torch.cat(parts, dim=1 if whole.is_floating_point() else -1), whole, **CLOSE)
    torch.testing.assert_close(model.encode(audio).values, whole, rtol=0, atol=0)  # no state stays behind


@pytest.mark.parametrize("name", CODECS)
def test_long_clips_equal_the_whole(name):
    """In chunks where the model streams, as a whole where it does not; each row as alone."""
    model = build(name)
    audio = waves(model, 2, 6 * model.stream_chunk)
    lengths = torch.tensor([audio.shape[-1], audio.shape[-1] - 3 * model.hop_length])
    chunk = 2 * model.stream_chunk * model.hop_length / model.sample_rate
    whole = model.encode(audio, lengths)
    made = model.encode_long(audio, lengths, chunk_seconds=chunk)
    assert torch.equal(made.lengths, whole.lengths) and made.sample_rate == model.sample_rate
    axis = 1 if whole.is_continuous else -1
    for row, count in enumerate(whole.lengths.tolist()):
        torch.testing.assert_close(made[row].values.narrow(axis, 0, count), whole[row].values.narrow(axis, 0, count),
                                   **CLOSE)
    decoded = model.decode_long(whole, chunk_seconds=chunk)
    for row, count in enumerate(whole.lengths.tolist()):
        alone = model.decode(Tokens(whole.values[row:row + 1].narrow(axis, 0, count)))
        torch.testing.assert_close(decoded[row:row + 1, :, :alone.shape[-1]], alone, **CLOSE)
        assert not decoded[row, :, alone.shape[-1]:].any()


@pytest.mark.parametrize("name", TRAINS)
def test_codecs_train(name):
    """Loss and metrics are finite scalars, and every weight that is not frozen gets a gradient."""
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).train()
    audio = waves(model, 2, 9 * model.stream_chunk)
    output = model(audio)
    assert output.media.dim() == 3 and output.loss.shape == () and output.media.dtype == torch.float32
    if model.output_sample_rate == model.sample_rate:
        assert 0 < output.media.shape[-1] <= audio.shape[-1]
    (output.media.square().mean() + output.loss).backward()
    assert all(bool(value.isfinite().all()) for value in (output.loss, *output.metrics.values()))
    assert not any(value.requires_grad for value in output.metrics.values())
    assert [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []


@pytest.mark.parametrize("name", [name for name in CODECS if name not in TRAINS])
def test_codecs_that_do_not_train_say_so(name):
    with pytest.raises(ValueError, match="no training pass"):
        build(name)(waves(build(name), 1))


def test_the_causal_families_stream():
    """What must not be lost: each decodes in chunks, and those with a causal encoder encode in chunks."""
    families = {entry.name: entry for entry in list_models("codec")}
    causal = [name for name in families if name.startswith(("focalcodec-causal", "voxcpm-vae"))]
    assert len(causal) == 6
    for name in causal:
        model = build(name)
        assert model.streams and model.streams_encode and not model.delay
    for name in ("mimi-8", "mimi-32", "stream-codec"):
        assert build(name).streams and not build(name).delay
    assert build("mimi-8").streams_encode
    for name in families:
        if name.endswith("-hift"):
            assert build(name).streams and build(name).delay > 0


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
