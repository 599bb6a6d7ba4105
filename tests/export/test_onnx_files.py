"""Models as ONNX files: equal to torch at sizes that the command does not try, and refusals that leave nothing."""

import json
import sys

import numpy as np
import pytest
import torch

from photophone import Tokens, create_model
from photophone.export import onnx as onnx_files
from photophone.export.graphs import GRAPHS, VocoderDecode, graphs_of
from photophone.export.spectra import Analysis, Synthesis
from photophone.loading.registry import find

onnxruntime = pytest.importorskip("onnxruntime", reason="needs photophone[onnx]")
pytest.importorskip("onnxscript", reason="needs photophone[onnx]")
TOLERANCE = 1e-4
BUILT_IN = {"photophone/tiny-enhance": {"enhance": "noisy"}, "photophone/tiny-vocoder": {"decode": "mels"},
            "photophone/tiny-speech": {"encode": "audio", "decode": "tokens"},
            "photophone/tiny-image": {"decode": "tokens"}}
RATES = {"photophone/tiny-enhance": "16000", "photophone/tiny-vocoder": "16000", "photophone/tiny-speech": "24000"}


def session(file):
    return onnx_files.open_session(onnxruntime, file)


def speech(rows, count):
    generator = torch.Generator().manual_seed(count)
    times = torch.arange(count) / 16_000
    tone = torch.sin(2 * torch.pi * times * torch.tensor([[150.0], [210.0], [320.0], [97.0]])[:rows])
    return (0.1 * tone + 0.02 * torch.randn(rows, count, generator=generator))[:, None]


def compare(file, graph, x):
    made = session(file).run(None, {graph.reads: x.numpy()})[0]
    expected = graph.reference(x).numpy()
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folders of the built-in models, each written once, and what was said of them."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def get(name):
        if name not in made:
            made[name] = onnx_files.export_onnx(name, folder / name)
        return folder / name, made[name]
    return get


@pytest.mark.parametrize("name", BUILT_IN)
def test_files_equal_torch_at_other_sizes(exported, name):
    folder, parts = exported(name)
    assert {part.part: next(iter(part.input)) for part in parts} == BUILT_IN[name]
    assert {path.name for path in folder.iterdir()} == {f"{part}.onnx" for part in BUILT_IN[name]}
    for part, graph in zip(parts, graphs_of(onnx_files.load_exportable(name), name), strict=True):
        assert part.error <= TOLERANCE and part.torch_ms > 0 and part.onnx_ms > 0 and len(part.sizes) > 3
        for rows, count in ((1, 641), (4, 7_123), (2, 30_001)):
            compare(part.file, graph, graph.example(speech(rows, count)))
        told = session(part.file).get_modelmeta().custom_metadata_map
        assert (told["photophone.model"], told["photophone.part"]) == (name, part.part)
        assert told.get("photophone.sample_rate") == RATES.get(name)


def test_one_sample_and_one_token(exported):
    """The shortest inputs that the calls take."""
    folder, _ = exported("photophone/tiny-speech")
    encode, decode = graphs_of(onnx_files.load_exportable("photophone/tiny-speech"), "")
    for count in (1, 959, 960, 961):
        compare(folder / "encode.onnx", encode, speech(1, count))
    compare(folder / "decode.onnx", decode, torch.randn(1, 1, 48, generator=torch.Generator().manual_seed(0)))
    folder, _ = exported("photophone/tiny-enhance")
    (enhance,) = graphs_of(onnx_files.load_exportable("photophone/tiny-enhance"), "")
    for count in (1, 256, 401):
        compare(folder / "enhance.onnx", enhance, speech(1, count))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A saved vocoder of few weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("small")
    create_model("vocos-mel-24khz", **find("vocos-mel-24khz").tiny).save_pretrained(folder)
    return folder


def test_the_command_says_error_and_speed_and_replaces_nothing_unasked(run, small, tmp_path):
    file = tmp_path / "decode.onnx"
    file.write_text("mine")
    code, _, errors = run("export", small, "-o", tmp_path)
    assert code == 2 and "--overwrite" in errors and file.read_text() == "mine"
    code, output, errors = run("export", small, "--to", "onnx", "-o", tmp_path, "--overwrite")
    assert (code, errors) == (0, "") and output.startswith(f"{file}  mels (batch, length, 8) -> audio (batch, 1, ")
    assert "largest difference from torch" in output and "one thread each: torch" in output
    code, output, errors = run("export", small, "-o", tmp_path / "again", "--json")
    facts = json.loads(output)
    assert (code, errors, facts["model"], facts["format"]) == (0, "", str(small), "onnx")
    assert facts["files"][0]["file"] == str(tmp_path / "again" / "decode.onnx")


def test_a_saved_codec_of_codes(tmp_path):
    """Codes are compared as they are: one that differs would be a difference of 1."""
    torch.manual_seed(0)
    model = create_model("stream-codec-fsq", **find("stream-codec-fsq").tiny).eval()
    model.save_pretrained(tmp_path / "codec")
    parts = onnx_files.export_onnx(str(tmp_path / "codec"), tmp_path / "made")
    assert parts[0].error == 0 and parts[1].error <= TOLERANCE
    codes = session(tmp_path / "made" / "encode.onnx").run(None, {"audio": speech(2, 5_000).numpy()})[0]
    assert codes.dtype == np.int64 and np.array_equal(codes, model.encode(speech(2, 5_000)).values.numpy())
    made = session(tmp_path / "made" / "decode.onnx").run(None, {"tokens": codes})[0]
    np.testing.assert_allclose(made, model.decode(Tokens(torch.from_numpy(codes))).numpy(), atol=TOLERANCE)


@pytest.mark.parametrize(("name", "message"), [
    ("photophone/tiny-imag", "did you mean photophone/tiny-image"),
    ("mar-base", "mar-base is not built in"),
    ("focal", "is a FocalCodec, which is not exported; exported are SpeechEnhancer, Vocos, StreamCodec"),
    ("pipeline", "give the folder of the part"),
    ("centred", "cannot be exported"),
])
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(run, saved, tmp_path, monkeypatch, name, message):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    create_model("focalcodec-offline-25hz", **find("focalcodec-offline-25hz").tiny).save_pretrained("focal")
    create_model("vocos-mel-24khz", **find("vocos-mel-24khz").tiny, num_conditions=2).save_pretrained("centred")
    code, output, errors = run("export", saved if name == "pipeline" else name, "-o", "made")
    assert (code, output) == (2, "") and message in errors
    assert not (tmp_path / "made").exists()


def test_other_formats_and_missing_packages_are_refused(run, tmp_path, monkeypatch):
    code, _, errors = run("export", "photophone/tiny-image", "--to", "tflite", "-o", tmp_path / "made")
    assert code == 2 and "--to must be onnx, got 'tflite'" in errors
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as Python does for what cannot be imported
    code, _, errors = run("export", "photophone/tiny-image", "-o", tmp_path / "made")
    assert code == 2 and "exporting needs the package onnxscript: pip install photophone[onnx]" in errors
    assert not (tmp_path / "made").exists()


def test_a_file_that_differs_gets_no_name(small, tmp_path):
    with pytest.raises(ValueError, match=r"decode\.onnx differs from torch by .*, the limit is 1e-12; nothing was"):
        onnx_files.export_onnx(str(small), tmp_path / "made", tolerance=1e-12)
    assert not list(tmp_path.glob("made/*"))


def test_a_model_that_the_exporter_cannot_follow_is_a_users_error(small, tmp_path):
    class Looks(VocoderDecode):
        def forward(self, mels):
            return super().forward(mels) * (1 if float(mels.max()) > 0 else 2)

    looks = Looks(onnx_files.load_exportable(str(small))).eval()
    with pytest.raises(ValueError, match="decode of mine cannot be exported with these settings"):
        onnx_files.write_graph(looks, "mine", tmp_path / "a.onnx")


@pytest.mark.parametrize("n_fft", [64, 800])
def test_transforms_are_those_of_torch(n_fft):
    hop, window = n_fft // 4, torch.hann_window(n_fft)
    audio = torch.randn(2, 20 * hop, generator=torch.Generator().manual_seed(0))
    frames = audio.unfold(-1, n_fft, hop).double() * window
    expected = torch.fft.rfft(frames).transpose(1, 2)
    made = Analysis(window, hop)(audio)
    torch.testing.assert_close(made, torch.cat([expected.real, expected.imag], dim=1).float(), atol=2e-5, rtol=1e-5)
    again = Synthesis(window, hop)(made)
    torch.testing.assert_close(again[:, n_fft:-n_fft], audio[:, n_fft:again.shape[1] - n_fft], atol=1e-5, rtol=1e-5)


def test_every_class_has_a_built_in_model():
    assert {type(onnx_files.load_exportable(name)) for name in BUILT_IN} == set(GRAPHS)
