"""AutoCodec finds the class of a codec by its name, or in the config of a saved one."""

from pathlib import Path

import pytest
import torch

import photophone as pp
from photophone.codecs.vocos.model import Vocos
from photophone.data.audio import read_audio
from photophone.loading.registry import PRETRAINED, create_model, find

CLIP = Path(__file__).parent / "goldens" / "data" / "speech" / "ls1688-0.opus"
SMALL = {"num_mels": 8, "n_fft": 64, "hop_length": 16, "width": 16, "hidden": 24, "depth": 1}


def test_official_and_saved_weights(tmp_path):
    torch.manual_seed(0)
    model = Vocos(**SMALL).eval()
    wave = torch.randn(1, 1, 160)
    expected = model.decode(model.encode(wave))
    again = pp.AutoCodec.from_original("vocos-mel-24khz", model.state_dict(), **SMALL)
    assert type(again) is Vocos and torch.equal(again.decode(again.encode(wave)), expected)
    model.save_pretrained(tmp_path)
    saved = pp.AutoCodec.from_pretrained(tmp_path)
    assert type(saved) is Vocos and torch.equal(saved.decode(saved.encode(wave)), expected)
    builtin = pp.AutoCodec.from_pretrained("photophone/tiny-speech")
    assert (builtin.sample_rate, builtin.training) == (24000, False)


def test_tokens_go_to_a_file_and_back(tmp_path):
    codec = create_model("focalcodec-causal-2k", **find("focalcodec-causal-2k").tiny).eval()
    tokens = codec.encode(torch.randn(1, 1, 8 * codec.hop_length))
    tokens.save(tmp_path / "speech.safetensors")
    again = pp.Tokens.load(tmp_path / "speech.safetensors")
    assert torch.equal(codec.decode(again), codec.decode(tokens))


@pytest.mark.parametrize(("name", "message"), [("mar-base", "no codec"), ("vocos-mel-24kh", "vocos-mel-24khz")])
def test_refusals(name, message):
    with pytest.raises(ValueError, match=message):
        pp.AutoCodec.from_original(name, {})


def test_the_built_in_vocoder_is_close_to_the_recording():
    stoi = pytest.importorskip("photophone.evaluation.metrics.audio").stoi
    pytest.importorskip("pystoi")
    codec = pp.AutoCodec.from_pretrained("photophone/tiny-vocoder")
    audio, rate = read_audio(CLIP, codec.sample_rate)
    tokens = codec.encode(torch.from_numpy(audio)[None, None])
    assert tokens.model == codec.published_name == "photophone/tiny-vocoder"
    made = codec.decode(tokens)[0, 0, :len(audio)].numpy()
    assert stoi(audio[:len(made)], made, rate) > 0.85
    with pytest.raises(ValueError, match="16000 Hz, this codec reads 24000"):
        pp.AutoCodec.from_pretrained("photophone/tiny-speech").decode(tokens)
    folder = PRETRAINED / "tiny-vocoder"
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 5_000_000
    half = Vocos.from_pretrained(folder, dtype=torch.float16).state_dict()
    assert all(torch.equal(weight, half[key].float()) for key, weight in codec.state_dict().items())
