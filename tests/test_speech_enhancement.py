"""The enhancement pipeline and command with a small real model: lengths, silence, pieces, files, refusals."""

import json

import numpy as np
import pytest
import soundfile
import torch
from tiny import shake

from photophone import SpeechEnhancementPipeline, SpeechEnhancer
from photophone.data.audio_stream import ArrayReader, AudioReader, overlapping
from photophone.pipelines import speech_enhancement

SMALL = {"channels": [8, 12, 16], "squeeze": 4, "width": 32, "hidden": 48, "depth": 2, "token_depth": 1, "token_dim": 4,
         "dilations": [1, 2]}


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    return shake(SpeechEnhancer(**SMALL), scale=0.03)


@pytest.fixture(scope="module")
def pipeline(enhancer):
    return SpeechEnhancementPipeline(enhancer)


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("enhance") / "model"
    pipeline.save_pretrained(folder)
    return folder


def sound(seconds, rate=16000, channels=None, seed=0):
    shape = (round(seconds * rate),) if channels is None else (channels, round(seconds * rate))
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def write(path, audio, rate=16000, **options):
    soundfile.write(path, audio.T, rate, **options)
    return path


@pytest.fixture
def run(run_binary):
    return run_binary


def test_an_untrained_filter_gives_half_of_the_input():
    torch.manual_seed(0)
    model = SpeechEnhancer(**SMALL)
    torch.nn.init.zeros_(model.to_taps.conv.weight)
    audio = torch.from_numpy(sound(1.0))[None, None]
    audio = audio - audio.mean()
    made, inner = model.enhance(audio), slice(1000, -1000)
    error = made[..., inner] - 0.5 * audio[..., inner]  # the constant of each frame is gone, one bin of 257
    assert float(error.square().mean() / audio.square().mean()) < 0.005


def test_any_part_equals_the_whole(enhancer):
    audio, reach = torch.from_numpy(sound(4.0))[None, None], enhancer.reach
    whole, begin = enhancer.enhance(audio), 5 * enhancer.alignment
    assert reach < begin and reach % enhancer.alignment == 0
    part = enhancer.enhance(audio[..., begin - reach:begin + 3000 + reach])[..., reach:reach + 3000]
    torch.testing.assert_close(part, whole[..., begin:begin + 3000], rtol=0, atol=2e-6)
    changed = audio.clone()
    changed[..., :begin - reach] = 0
    torch.testing.assert_close(enhancer.enhance(changed)[..., begin:], whole[..., begin:], rtol=0, atol=2e-6)
    near = audio.clone()
    near[..., begin - 300:begin] = 0
    assert not torch.allclose(enhancer.enhance(near)[..., begin:], whole[..., begin:], atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [None, 1, 2])
def test_shape_and_rate_stay(pipeline, rate, channels):
    audio = sound(0.73, rate, channels)
    result = pipeline(audio, sampling_rate=rate)
    (made,) = result.audio
    assert made.shape == audio.shape and made.dtype == np.float32 and result.sample_rate == rate
    assert np.isfinite(made).all() and made.std() > 0.01


def test_there_is_no_delay(pipeline):
    audio = sound(1.0, 48000)
    (made,) = pipeline(audio, sampling_rate=48000).audio
    found = np.fft.irfft(np.fft.rfft(made, 96000) * np.fft.rfft(audio, 96000).conj())
    assert int(found.argmax()) == 0


@pytest.mark.parametrize("rate", [16000, 44100])
def test_pieces_equal_the_whole(pipeline, monkeypatch, rate):
    audio = sound(13.3, rate, 2)
    (whole,) = pipeline(audio, sampling_rate=rate).audio
    monkeypatch.setattr(speech_enhancement, "PIECE_SECONDS", 4)
    steps = []
    (pieces,) = pipeline(audio, sampling_rate=rate,
                         callback_on_step_end=lambda p, step, total, facts: steps.append((step, total))).audio
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=5e-5)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_silence_stays_silence_and_nothing_is_left_of_an_offset(pipeline):
    (made,) = pipeline(np.zeros(30000, np.float32), sampling_rate=16000).audio
    assert not made.any()
    audio = sound(1.0)
    (plain,), (shifted,) = (pipeline(signal, sampling_rate=16000).audio for signal in (audio, audio + 0.3))
    np.testing.assert_allclose(plain, shifted, atol=1e-5)
    (constant,) = pipeline(np.full(16000, 0.5, np.float32), sampling_rate=16000).audio
    assert np.abs(constant).max() < 1e-5


def test_level_does_not_matter_and_full_scale_is_kept(pipeline):
    audio = sound(1.0)
    (loud,), (soft,) = (pipeline(audio * gain, sampling_rate=16000).audio for gain in (1.0, 0.05))
    np.testing.assert_allclose(soft, 0.05 * loud, atol=1e-5)
    square = np.sign(sound(1.0))
    (made,) = pipeline(square, sampling_rate=16000).audio
    assert np.abs(made).max() <= 1


def changing(seconds, rate=16000, channels=None):
    """Noise whose level falls by 30 dB and rises again, with clicks."""
    audio = sound(seconds, rate, channels)
    time = np.arange(audio.shape[-1]) / rate
    audio = audio * 10 ** (-1.5 * np.sin(np.pi * time / seconds) ** 2).astype(np.float32)
    audio[..., ::7 * rate] = 1
    return audio


@pytest.mark.parametrize("rate", [16000, 44100])
def test_pieces_equal_the_whole_where_the_level_changes(pipeline, monkeypatch, rate):
    audio = changing(47, rate, 2)
    (whole,) = pipeline(audio, sampling_rate=rate).audio
    monkeypatch.setattr(speech_enhancement, "PIECE_SECONDS", 6)
    (pieces,) = pipeline(audio, sampling_rate=rate).audio
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=5e-5)
    gains = speech_enhancement.level_gains(ArrayReader(audio, rate).levels())
    assert 5 < gains.max() / gains.min() < 20


def test_a_click_does_not_change_what_is_made_of_the_rest(pipeline):
    audio = 0.02 * sound(6.0)
    clicked = audio.copy()
    clicked[20_000:20_160] = 1
    (plain,), (made,) = (pipeline(signal, sampling_rate=16000).audio for signal in (audio, clicked))
    np.testing.assert_allclose(made[40_000:], plain[40_000:], rtol=0.1, atol=1e-4)


def test_peaks_over_full_scale_are_kept_or_scaled_and_said(pipeline, saved, tmp_path, run):
    audio = sound(2.0)
    audio *= 4 / np.abs(audio).max()
    result = pipeline(audio, sampling_rate=16000, mix=0.0)
    np.testing.assert_allclose(result.audio[0], audio - audio.mean(), atol=1e-5)
    source = write(tmp_path / "loud.wav", audio, subtype="FLOAT")
    for name in ("out.wav", "out.flac", "out.ogg"):
        code, output, _ = run("enhance", source, "-o", tmp_path / name, "--mix", 0, "--json", "-m", saved)
        (facts,) = json.loads(output)["files"]
        made = soundfile.read(tmp_path / name, dtype="float32")[0]
        scale = facts.get("scaled_by", 1)
        assert code == 0 and scale == (1 if name == "out.wav" else pytest.approx(1 / 4, rel=2e-3))
        if name != "out.ogg":
            np.testing.assert_allclose(made, scale * (audio - audio.mean()), atol=1e-4)
    (file,) = result.save(tmp_path / "saved.wav")
    peak = np.abs(result.audio[0]).max()
    assert json.loads(file.with_suffix(".json").read_text())["scaled_by"] == pytest.approx(1 / peak, rel=1e-4)
    np.testing.assert_allclose(soundfile.read(file)[0] * peak, result.audio[0], atol=2e-4)


@pytest.mark.parametrize("value", [1e30, np.nan, -np.inf])
def test_one_sample_that_is_no_sound_is_refused(pipeline, saved, tmp_path, run, value):
    audio = sound(1.0)
    audio[7000] = value
    with pytest.raises(ValueError, match="full scale is 1|NaN or infinite"):
        pipeline(audio, sampling_rate=48000)
    source = write(tmp_path / "bad.wav", audio, 48000, subtype="FLOAT")
    code, output, error = run("enhance", source, "-o", tmp_path / "out.wav", "-m", saved)
    assert (code, output) == (2, b"") and "bad.wav holds" in error and not (tmp_path / "out.wav").exists()


def test_mix_keeps_a_share_of_the_input(pipeline):
    audio = sound(1.0) - sound(1.0).mean()
    results = {mix: pipeline(audio, sampling_rate=16000, mix=mix) for mix in (0.0, 0.6, 1.0)}
    np.testing.assert_allclose(results[0.0].audio[0], audio, atol=1e-6)
    np.testing.assert_allclose(results[0.6].audio[0], 0.6 * results[1.0].audio[0] + 0.4 * audio, atol=1e-6)
    assert results[0.6].settings == {"mix": 0.6}


def test_a_list_equals_single_calls_and_is_saved(pipeline, tmp_path):
    clips = [sound(0.5), sound(0.9, channels=2, seed=1)]
    result = pipeline(clips, sampling_rate=16000)
    for clip, made in zip(clips, result.audio):
        np.testing.assert_array_equal(pipeline(clip, sampling_rate=16000).audio[0], made)
    files = result.save(tmp_path)
    assert [file.name for file in files] == ["000.wav", "001.wav"]
    audio, rate = soundfile.read(files[1])
    assert rate == 16000 and np.abs(audio.T - result.audio[1].clip(-1, 1)).max() < 1e-4
    assert json.loads(files[0].with_suffix(".json").read_text())["mix"] == 1.0
    with pytest.raises(ValueError, match="2 recordings do not fit one file"):
        result.save(tmp_path / "one.wav")


@pytest.mark.parametrize(("audio", "options", "words"), [
    (np.zeros(0, np.float32), {}, "T > 0"), (sound(1, channels=3), {}, "3 channels"),
    (np.array([0.1, np.nan], np.float32), {}, "NaN or infinite"), (np.zeros(100, np.int16), {}, "divide 16-bit"),
    (np.zeros((1, 2, 3), np.float32), {}, "shape"), (sound(0.1), {"sampling_rate": 1}, "1 Hz"),
    (sound(0.1), {"sampling_rate": 16000.5}, "whole number"), (sound(0.1), {"mix": 1.5}, "mix must be 0 to 1"),
    (sound(0.1), {"mix": float("nan")}, "mix must be"),
])
def test_wrong_audio_is_refused(pipeline, audio, options, words):
    with pytest.raises(ValueError, match=words):
        pipeline(audio, **{"sampling_rate": 16000, **options})


def test_overlapping_pieces_cover_the_signal():
    signal = np.arange(103, dtype=np.float32)[None]
    blocks = (signal[:, i:i + 7] for i in range(0, 103, 7))
    found = []
    for before, count, audio in overlapping(blocks, 103, 20, 9):
        first = int(audio[0, before])
        np.testing.assert_array_equal(audio[0], np.arange(max(0, first - 9), min(103, first + 20 + 9)))
        found += audio[0, before:before + count].tolist()
    assert found == signal[0].tolist()


def test_a_file_equals_the_array(pipeline, saved, tmp_path, run):
    audio = sound(5.2, 44100, 2)
    source = write(tmp_path / "noisy.wav", audio, 44100, subtype="FLOAT")
    before = source.read_bytes()
    code, output, _ = run("enhance", source, "-o", tmp_path / "out" / "clean.wav", "--mix", "0.8", "-m", saved)
    made, rate = soundfile.read(tmp_path / "out" / "clean.wav", dtype="float32")
    assert code == 0 and rate == 44100 and made.shape == (len(audio[0]), 2) and b"clean.wav" in output
    assert soundfile.info(tmp_path / "out" / "clean.wav").subtype == "FLOAT" and source.read_bytes() == before
    np.testing.assert_allclose(made.T, pipeline(audio, sampling_rate=44100, mix=0.8).audio[0], atol=1e-6)


def test_folders_pipes_and_json(saved, tmp_path, run):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write(tmp_path / "in" / "a.wav", sound(0.3))
    write(tmp_path / "in" / "deep" / "b.flac", sound(0.4, channels=2))
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    code, output, _ = run("enhance", tmp_path / "in", "-o", tmp_path / "out", "--json", "-m", saved)
    facts = json.loads(output)
    assert code == 0 and [file["channels"] for file in facts["files"]] == [1, 2] and facts["mix"] == 1.0
    assert (tmp_path / "out" / "a.wav").exists() and (tmp_path / "out" / "deep" / "b.flac").exists()
    code, output, _ = run("enhance", "--stdin", "--stdout", "-m", saved, given=(tmp_path / "in" / "a.wav").read_bytes())
    assert code == 0 and output == (tmp_path / "out" / "a.wav").read_bytes()
    assert run("enhance", tmp_path / "in" / "a.wav", "-q", "-o", tmp_path / "q.wav", "-m", saved) == (0, b"", "")


def test_bad_files_are_refused_and_nothing_is_written(saved, tmp_path, run):
    good = write(tmp_path / "good.wav", sound(0.3))
    bad = {"empty.wav": b"", "text.wav": b"hello, no audio here", "cut.wav": good.read_bytes()[:3000],
           "renamed.flac": b"\x89PNG\r\n" + bytes(100)}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    write(tmp_path / "three.wav", sound(0.1, channels=3))
    write(tmp_path / "nan.wav", np.array([0.0, np.nan], np.float32), subtype="FLOAT")
    write(tmp_path / "slow.wav", sound(0.1), 100)
    write(tmp_path / "hertz.wav", sound(0.1), 1)
    names = [*bad, "three.wav", "nan.wav", "slow.wav", "hertz.wav", "nowhere.wav"]
    for name in names:
        code, output, error = run("enhance", good, tmp_path / name, "-o", tmp_path / "out", "-m", saved)
        assert (code, output) == (2, b"") and name in error and len(error.splitlines()) == 1, name
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["{good}"], "give either --output or --stdout"), (["-o", "out"], "give files or folders"),
    (["{good}", "--stdin", "-o", "out"], "not both"), (["{good}", "-o", "out", "--mix", "2"], "got 2.0"),
    (["{good}", "-o", "{good}"], "is an input"), (["{good}", "{good}", "-o", "out"], "two inputs"),
    (["{good}", "{good}", "-o", "x.wav"], "do not fit one file"), (["{good}", "--stdout", "--json"], "carries audio"),
    (["{folder}", "-o", "out"], "holds no audio files"),
])
def test_wrong_commands_take_one_line(saved, tmp_path, run, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    good = write(tmp_path / "good.wav", sound(0.2))
    (tmp_path / "folder").mkdir()
    arguments = [part.format(good=good, folder=tmp_path / "folder") for part in arguments]
    code, output, error = run("enhance", *arguments, "-m", saved)
    assert (code, output) == (2, b"") and words in error and len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "good.wav"]


def test_headers_that_lie_are_found(tmp_path):
    path = write(tmp_path / "a.flac", sound(1.0))
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(ValueError, match=r"a\.flac (is cut short|cannot be read)"):
        AudioReader(path).levels()
