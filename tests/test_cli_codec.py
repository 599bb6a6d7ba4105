"""`photophone encode` and `decode` with a codec that needs no weights and with tiny official ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from photophone import AutoCodec
from photophone.cli import codec as commands
from photophone.codecs.focalcodec.model import FocalCodec
from photophone.core.tokens import Tokens
from photophone.loading.registry import create_model, find

CLIPS = Path(__file__).parent / "goldens" / "data" / "speech"
FOCAL = Path(__file__).parent / "goldens" / "data" / "focalcodec"


@pytest.fixture(scope="module")
def files():
    return [str(CLIPS / row["file"]) for row in map(json.loads, (CLIPS / "clips.jsonl").read_text().splitlines())]


def test_files_of_different_length_make_a_batch_and_come_back(files, tmp_path):
    commands.encode([Path(files[0]), Path(files[2])], "dmel-16k-25ms", config='{"iterations": 1}',
                    output=tmp_path / "t.safetensors", quiet=True)
    tokens = Tokens.load(tmp_path / "t.safetensors")
    assert tokens.model == "dmel-16k-25ms" and tokens.sample_rate == 16000 and tokens.values.shape[:2] == (2, 80)
    assert tokens.lengths[0] > tokens.lengths[1]
    commands.decode(tmp_path / "t.safetensors", config='{"iterations": 1}', output=tmp_path / "out.wav", quiet=True)
    for row in (1, 2):
        info = soundfile.info(tmp_path / f"out-{row}.wav")
        assert info.samplerate == 16000 and info.frames == (int(tokens.lengths[row - 1]) - 1) * 400


def test_tokens_of_another_codec_or_rate_are_refused(files, tmp_path):
    commands.encode([Path(files[2])], "dmel-16k-25ms", output=tmp_path / "t.safetensors", quiet=True)
    with pytest.raises(ValueError, match="cannot be decoded by 'dmel-16k-12ms'"):
        commands.decode(tmp_path / "t.safetensors", model="dmel-16k-12ms", output=tmp_path / "out.wav")
    tokens = Tokens(torch.zeros(1, 80, 3).long(), sample_rate=8000)
    with pytest.raises(ValueError, match="8000 Hz"):
        create_model("dmel-16k-25ms").decode(tokens)
    tokens.save(tmp_path / "nameless.safetensors")
    with pytest.raises(ValueError, match="give --model"):
        commands.decode(tmp_path / "nameless.safetensors", output=tmp_path / "out.wav")
    Tokens(torch.zeros(0, 80, 3).long(), model="dmel-16k-25ms").save(tmp_path / "empty.safetensors")
    with pytest.raises(ValueError, match="batch is empty"):
        commands.decode(tmp_path / "empty.safetensors", output=tmp_path / "out.wav")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("value", [1e30, float("nan"), 32768.0])
def test_samples_that_are_no_sound_are_refused(value):
    audio = torch.zeros(1, 1, 4000)
    audio[0, 0, 7] = value
    with pytest.raises(ValueError, match="NaN or infinite|full scale is 1"):
        create_model("dmel-16k-25ms").encode(audio)


def test_official_weights_run_with_their_config(tmp_path):
    official = json.loads((FOCAL / "config.json").read_text())["offline"]
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(np.arange(2000) / 5), 16000)
    config = json.dumps(FocalCodec.convert_config(official))
    commands.encode([tmp_path / "a.wav"], "focalcodec-offline-25hz", weights=str(FOCAL / "weights_v001.safetensors"),
                    config=config, output=tmp_path / "t.safetensors", quiet=True)
    tokens = Tokens.load(tmp_path / "t.safetensors", model="focalcodec-offline-25hz")
    assert tokens.values.dim() == 2 and int(tokens.values.max()) < 256
    with pytest.raises(ValueError, match="is a generator, no codec"):
        AutoCodec.from_pretrained("mar-base")


@pytest.mark.parametrize("name", ["focalcodec-causal-2k", "voxcpm-vae-44k"])
def test_chunks_equal_the_whole(name):
    entry = find(name)
    torch.manual_seed(0)
    model = create_model(entry.name, **entry.tiny).eval()
    audio = 0.1 * torch.randn(2, 1, 1630)
    lengths = torch.tensor([1630, 901])
    with torch.no_grad():
        whole = model.encode(audio, lengths)
        chunks = model.encode_long(audio, lengths, chunk_seconds=0.005)
        assert torch.equal(chunks.lengths, whole.lengths)
        for row, length in enumerate(whole.lengths.tolist()):
            torch.testing.assert_close(chunks.values[row, :length], whole.values[row, :length], rtol=1e-4, atol=1e-5)
        made = model.decode_long(whole[1], chunk_seconds=0.005)
        alone = model.decode(Tokens(whole.values[1:, :int(whole.lengths[1])]))
    torch.testing.assert_close(made, alone, rtol=1e-4, atol=1e-5)


def test_the_codec_of_the_built_in_voice_has_its_name(files, tmp_path):
    commands.encode([Path(files[2])], "photophone/tiny-speech", output=tmp_path / "t.safetensors", quiet=True)
    tokens = Tokens.load(tmp_path / "t.safetensors")
    assert tokens.model == "photophone/tiny-speech" and tokens.is_continuous
    commands.decode(tmp_path / "t.safetensors", output=tmp_path / "out.wav", quiet=True)
    assert soundfile.info(tmp_path / "out.wav").frames == tokens.num_tokens * 960
    with pytest.raises(ValueError, match="photophone/tiny-image has no codec"):
        AutoCodec.from_pretrained("photophone/tiny-image")
    with pytest.raises(ValueError, match="cannot be decoded by 'dmel-16k-25ms'"):
        commands.decode(tmp_path / "t.safetensors", model="dmel-16k-25ms", output=tmp_path / "out.wav")
