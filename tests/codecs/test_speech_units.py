"""Speech units: batches, long clips, the authors' ONNX files, refusals."""

import onnx
import pytest
import torch
from onnx import helper
from s3_onnx import without_key_bias, write_onnx
from tiny import build

from photophone import create_model, load_original
from photophone.codecs.speech_units import s3
from photophone.codecs.speech_units.blocks import windows
from photophone.loading.onnx_file import read_onnx

NAMES = ["s3-tokenizer-v1", "s3-tokenizer-v1-25hz", "s3-tokenizer-v2", "glm-4-voice-tokenizer"]
TINY = {"num_mels": 8, "width": 16, "depth": 2, "num_heads": 2, "max_length": 100}


def speech(samples, rows=1):
    generator = torch.Generator().manual_seed(3)
    return 0.2 * torch.randn(rows, 1, samples, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_clips(name):
    model, lengths = build(name), torch.tensor([9000, 4007, 100, 4007])
    audio = speech(9000, 4)
    tokens = model.encode(audio, lengths)
    assert torch.equal(tokens.lengths, model.token_lengths(lengths)) and tokens.sample_rate == 16000
    for row, length in enumerate(lengths.tolist()):
        alone = model.encode(audio[row:row + 1, :, :length])
        assert alone.num_tokens == int(tokens.lengths[row]) >= 1
        assert torch.equal(alone.values[0], tokens.values[row, :alone.num_tokens])
    assert int(tokens.values.min()) >= 0 and int(tokens.values.max()) < model.codebook_size


@pytest.mark.parametrize("name", NAMES)
def test_units_are_read_only(name):
    model = build(name)
    tokens = model.encode(speech(4000))
    with pytest.raises(ValueError, match="has no way back"):
        model.decode(tokens)
    with pytest.raises(ValueError, match="NaN"):
        model.encode(torch.full((1, 1, 4000), torch.nan))


@pytest.mark.parametrize("frames", [3000, 3001, 5600, 5601, 6000])
def test_long_clips_are_read_in_windows(frames, monkeypatch):
    """Every unit of a long clip is that of the window whose middle is nearest."""
    model = build("s3-tokenizer-v1-25hz")
    monkeypatch.setattr(s3, "WINDOW", 60)
    monkeypatch.setattr(s3, "OVERLAP", 16)
    audio = speech(frames // 20 * 160)
    tokens, count = model.encode(audio), frames // 20
    assert tokens.num_tokens == int(model.token_lengths(torch.tensor([audio.shape[-1]])))
    mel, parts = model.mel(audio[:, 0]), windows(count, 60, 16)
    pieces = [model.quantize(model.hidden(mel[..., start:end])[0])[0] for start, end in parts]
    if len(parts) > 1:
        middle = [piece[2:-2] for piece in pieces[1:-1]]
        pieces = [pieces[0][:-2], *middle, pieces[-1][2:]]
    assert torch.equal(tokens.values[0], torch.cat(pieces))


@pytest.mark.parametrize("name", ["s3-tokenizer-v1", "s3-tokenizer-v2"])
def test_onnx_files_give_the_same_units(name, tmp_path):
    torch.manual_seed(4)
    settings = {**TINY, **({"num_codes": 32} if "v1" in name else {})}
    model = without_key_bias(create_model(name, **settings))
    file = write_onnx(model, tmp_path / f"{name}.onnx")
    loaded = load_original(name, file, **{**settings, "depth": 6})  # the file knows better
    for (key, ours), (_, theirs) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), key
    audio = speech(9000)
    assert torch.equal(model.encode(audio).values, loaded.encode(audio).values) and not loaded.training


def test_onnx_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no bias of the keys"):
        write_onnx(build("s3-tokenizer-v2"), tmp_path / "biased.onnx")
    model = without_key_bias(build("s3-tokenizer-v2"))
    good = write_onnx(model, tmp_path / "good.onnx").read_bytes()
    for name, data in (("cut", good[:len(good) // 2]), ("text", b"no graph at all"), ("empty", b"")):
        (tmp_path / f"{name}.onnx").write_bytes(data)
        with pytest.raises(ValueError, match="is no ONNX file that can be read"):
            read_onnx(tmp_path / f"{name}.onnx")
    outside = write_onnx(model, tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(ValueError, match="lie in other files"):
        read_onnx(outside)
    other = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], []))
    onnx.save(other, str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="no speech tokenizer of CosyVoice"):
        load_original("s3-tokenizer-v2", tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no such file"):
        read_onnx(tmp_path / "missing.onnx")


def test_refused_sizes():
    with pytest.raises(ValueError, match="strides must be two numbers"):
        s3.S3Tokenizer(**TINY, strides=[2])
