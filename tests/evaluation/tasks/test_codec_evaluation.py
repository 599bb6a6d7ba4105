"""Figures of units against worked examples and closed forms, and the whole evaluation on a real tiny codec."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from photophone import create_model
from photophone.cli.codec import is_unpublished
from photophone.data.audio import read_audio
from photophone.data.speech_sources import Clip
from photophone.evaluation.metrics import units as unit_metrics
from photophone.evaluation.picture import draw_codecs
from photophone.evaluation.report import format_report, write_report
from photophone.evaluation.tasks import codec
from photophone.loading.registry import find

CLIPS = Path(__file__).parents[2] / "goldens" / "data" / "speech"


def test_usage_of_even_and_single_units():
    even = unit_metrics.usage(Counter({unit: 5 for unit in range(8)}), 16)
    assert even["used_share"] == 0.5 and even["entropy"] == pytest.approx(3)
    assert even["normalized_entropy"] == pytest.approx(0.75) and even["perplexity"] == pytest.approx(8)
    assert unit_metrics.usage(Counter({3: 9}), 16)["perplexity"] == 1


def test_huffman_codes_have_their_known_length():
    assert unit_metrics.huffman_bits(Counter({"a": 5, "b": 2, "c": 1, "d": 1})) == pytest.approx((5 + 4 + 3 + 3) / 9)
    assert unit_metrics.huffman_bits(Counter({unit: 1 for unit in range(32)})) == 5
    draw = np.random.default_rng(0).geometric(0.3, 5000)
    counts = Counter(draw.tolist())
    entropy = unit_metrics.usage(counts, 64)["entropy"]
    assert entropy <= unit_metrics.huffman_bits(counts) < entropy + 1  # Shannon's bounds


def test_edit_distances_ignore_repetitions_and_say_their_divisor():
    assert unit_metrics.deduplicate([1, 1, 2, 2, 2, 1]) == [1, 2, 1]
    assert unit_metrics.unit_edit_distance([1, 1, 2, 3, 4], [1, 2, 2, 2, 4]) == 1 / 4
    assert unit_metrics.normalized_edit_distance([1, 2], [1, 2, 3, 4]) == 1 / 2


def test_byte_pairs_save_what_they_merge():
    assert unit_metrics.learn_merges([[1, 2, 1, 2, 1, 2, 3]], 2, least=3) == [(1, 2)]
    assert unit_metrics.byte_pair_gain([[1, 2] * 8], [[1, 2, 1, 2]], 1) == 0.5
    assert unit_metrics.byte_pair_gain([[1, 2] * 8], [[3, 4, 3, 4]], 1) == 0  # 3 is also the number of the merged pair


def test_jensen_shannon_ranges_from_equal_to_disjoint():
    assert unit_metrics.jensen_shannon(Counter({1: 2, 2: 2}), Counter({1: 5, 2: 5})) == pytest.approx(0)
    assert unit_metrics.jensen_shannon(Counter({1: 3}), Counter({2: 7})) == pytest.approx(1)


@pytest.mark.parametrize("semitones", [-2, 2])
def test_pitch_and_speed_change_what_they_say(semitones):
    rate = 16000
    tone = torch.sin(2 * math.pi * 500 * torch.arange(rate) / rate)
    shifted = codec.disturbances(rate)[f"pitch {semitones:+d}"](tone)
    peak = int(torch.fft.rfft(shifted[2000:14000] * torch.hann_window(12000)).abs().argmax()) * rate / 12000
    assert peak == pytest.approx(500 * 2 ** (semitones / 12), rel=5e-3) and abs(len(shifted) - rate) <= 2
    assert len(codec.disturbances(rate)["speed 1.1"](tone)) == pytest.approx(rate / 1.1, abs=2)


def test_noise_has_its_level():
    tone = torch.sin(torch.arange(16000.0))
    noise = codec.disturbances(16000)["white noise 15 dB"](tone) - tone
    assert 10 * math.log10(tone.square().mean() / noise.square().mean()) == pytest.approx(15, abs=0.2)


def test_a_codec_is_measured_without_judges(tmp_path):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    rows = [json.loads(line) for line in (CLIPS / "clips.jsonl").read_text().splitlines()]
    clips = [Clip(*read_audio(CLIPS / row["file"], 16000), row) for row in rows[:2]]
    clips = [Clip(clip.audio[:24000], clip.sample_rate, clip.fields) for clip in clips]
    model = create_model("dmel-16k-25ms", iterations=8)
    result = codec.evaluate_codecs({"dmel": model}, clips, judges=False)
    row = result["codecs"]["dmel"]
    assert row["bits_per_second"] == 40 * 80 * 4 and not row["random_weights"]
    # Griffin-Lim from 16 levels is a rough copy; another speaker's speech scores about 0.1
    assert 0.75 < row["stoi"] < 1 and row["mel_distance"] < 0.35 and row["robustness"]["gain 0.3"] > 0.1
    files = write_report("codec", result, tmp_path, "codecs")
    assert [file.name for file in files] == ["codecs.json", "codecs.txt"]
    assert all(file.stat().st_size > 200 for file in files) and "12800" in files[1].read_text()


def test_words_that_several_speakers_say_are_found_and_compared(tmp_path):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    parquet, table = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow").table
    rows = [json.loads(line) for line in (CLIPS / "clips.jsonl").read_text().splitlines()]
    audio, rate = read_audio(CLIPS / rows[0]["file"], 16000)
    soundfile.write(tmp_path / "a.flac", audio[:16000], rate)
    sound = {"bytes": (tmp_path / "a.flac").read_bytes()}
    columns = {"audio": [sound] * 4, "text": ["no", "no", "yes", ""], "speaker": ["a", "b", "a", "c"]}
    parquet.write_table(table(columns), tmp_path / "test.parquet")
    clips, repeated = codec.read_test_clips(tmp_path, 1)
    assert len(clips) == 1 and [clip.fields["speaker"] for clip in repeated] == ["a", "b"]
    models = {"dmel": create_model("dmel-16k-25ms", iterations=2)}
    figures = [codec.evaluate_codecs(models, clips, repeated=more, judges=False)["codecs"]["dmel"]
               for more in ([], repeated)]
    assert math.isnan(figures[0]["speaker_invariance"])
    assert figures[1]["speaker_invariance"] == 1.0  # the same recording under two names


def test_random_weights_are_tried_on_few_clips_and_said_to_be_random(tmp_path):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    row = json.loads((CLIPS / "clips.jsonl").read_text().splitlines()[0])
    audio, rate = read_audio(CLIPS / row["file"], 16000)
    clips = [Clip(audio[start:start + 12000], rate, {}) for start in (0, 6000, 12000)]
    torch.manual_seed(0)
    models = {"dmel": create_model("dmel-16k-25ms", iterations=2),
              "stream-codec": create_model("stream-codec", **find("stream-codec").tiny).eval()}
    result = codec.evaluate_codecs(models, clips, judges=False, random={"stream-codec"})
    known, tried = (result["codecs"][name] for name in models)
    assert (known["clips"], tried["clips"]) == (3, codec.SMOKE_CLIPS) and tried["random_weights"]
    assert math.isnan(tried["bits_per_second"]) and "float_bits_per_second" not in known
    width = models["stream-codec"].token_dim
    assert tried["float_bits_per_second"] == 16 * width * models["stream-codec"].frame_rate
    table = format_report("codec", result)
    assert "stream-codec *" in table and "smoke test" in table and "dmel *" not in table
    draw_codecs(result, tmp_path / "codecs.png")
    assert (tmp_path / "codecs.png").read_bytes().startswith(b"\x89PNG")


def test_random_is_said_of_what_was_built_at_random_only(tmp_path):
    assert is_unpublished("mimi-8") and not is_unpublished("photophone/tiny-speech")
    assert not is_unpublished(str(tmp_path))
