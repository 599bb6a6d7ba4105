"""`photophone speak`: formats, rates, times, pronunciations, markup, and what is read."""

import json

import pytest
import soundfile
from speech import small_codec, small_speech
from typer.testing import CliRunner

from photophone import TextToSpeechPipeline
from photophone.cli import app

TEXT = "I saw a GIF. Who goes there?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech")
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["speak", *map(str, arguments)])


@pytest.mark.parametrize(("suffix", "form", "rate"), [("wav", "WAV", 16_000), ("flac", "FLAC", 44_100),
                                                      ("ogg", "OGG", 22_050), ("opus", "OGG", 48_000),
                                                      ("mp3", "MP3", 24_000)])
def test_the_name_says_the_format_and_the_rate_can_be_chosen(folder, tmp_path, suffix, form, rate):
    done = run(TEXT, "-o", tmp_path / f"a.{suffix}", "-m", folder, "--steps", 1, "--seed", 7, "--sample-rate", rate,
               "--json")
    assert done.exit_code == 0, done.exception
    printed, told = json.loads(done.stdout), soundfile.info(tmp_path / f"a.{suffix}")
    assert told.format == form and told.samplerate == rate == printed["sample_rate"]
    (piece, *_), _ = TextToSpeechPipeline.from_pretrained(folder).explain(TEXT), None
    assert printed["seconds"][0] > piece.end and told.duration == pytest.approx(printed["seconds"][0], abs=0.06)
    assert json.loads((tmp_path / "a.json").read_text())["sample_rate"] == rate


def test_times_lie_in_a_file(folder, tmp_path):
    options = ("-m", folder, "--steps", 1, "--seed", 7, "--pronounce", "GIF=dʒɪf")
    assert run(TEXT, "-o", tmp_path / "a.wav", "--timestamps", tmp_path / "times.json", *options).exit_code == 0
    facts = json.loads((tmp_path / "times.json").read_text())
    words = [word for piece in facts["sentences"] for word in piece["words"]]
    assert facts["seed"] == 7 and [word["text"] for word in words] == ["I", "saw", "a", "GIF", "Who", "goes", "there"]
    assert words[3]["phonemes"][0]["text"] == "ʤ" and facts["pronounce"] == {"GIF": "dʒɪf"}
    streamed = run(TEXT, "--stream", "pcm", "--timestamps", tmp_path / "a.srt", "--quiet", *options)
    assert streamed.exit_code == 0 and "Who goes there?" in (tmp_path / "a.srt").read_text()
    last = facts["sentences"][-1]["end"]
    assert len(streamed.stdout_bytes) == round(last * 16_000) * 2


def test_what_is_read_is_told_without_speaking(folder, tmp_path):
    table = tmp_path / "own.tsv"
    table.write_text("GIF\tdʒɪf\n", encoding="utf-8")
    done = run(f"{TEXT} Go to x.com?q=1", "--explain", "--lexicon", table, "-m", folder)
    assert done.exit_code == 0, done.exception
    assert "I saw a GIF.\nˌI sˈɔ ɐ ʤˈɪf.\n" in done.stdout and "  GIF  ʤ ˈɪ f\n" in done.stdout
    assert done.stdout.endswith("not read: ?q=1\n")
    told = json.loads(run(TEXT, "--explain", "--json", "-m", folder).stdout)["texts"][0]
    (first, _) = TextToSpeechPipeline.from_pretrained(folder).explain(TEXT)
    assert told["text"] == TEXT and told["sentences"][0] == json.loads(json.dumps(first.facts()))


def test_markup(folder, tmp_path):
    options = ("-m", folder, "--steps", 1, "--seed", 1, "--json")
    with_break, without = (json.loads(run(text, "-o", tmp_path / f"{name}.wav", *options).stdout)["seconds"][0]
                           for name, text in (("a", "<speak>Hello.<break time='2s'/></speak>"), ("b", "Hello.")))
    assert with_break - without == pytest.approx(2, abs=1e-3)
    done = run("Hello <break time='2s'/> you", "--markup", "-o", tmp_path / "c.wav", *options)
    assert json.loads(done.stdout)["seconds"][0] > 2 and json.loads((tmp_path / "c.json").read_text())["markup"] is True


@pytest.mark.parametrize(("arguments", "message"), [
    (("<speak>a <b>c</b></speak>",), "<b>, which is not known"),
    (("a", "--explain", "--stream", "wav"), "speaks nothing"),
    (("a", "--pronounce", "GIF"), "NAME=VALUE"), (("a", "--sample-rate", "5"), "rate of 5 Hz"),
    (("a", "--timestamps", "a.txt"), "must end in .json, .srt, .vtt"),
    (("a", "b", "--timestamps", "a.srt"), "of one text"), (("a", "--option", "top_p"), "NAME=VALUE"),
    (("a", "--option", "voice=2"), "voice is none"),
    (("a", "-o", "a.wav", "--timestamps", "a.json"), "lies beside a.wav")])
def test_refusals_before_anything_loads(arguments, message):
    done = run(*arguments)
    assert isinstance(done.exception, ValueError) and message in str(done.exception)


def test_a_setting_that_the_sampler_does_not_have_is_refused(folder, tmp_path):
    done = run("a", "-o", tmp_path / "a.wav", "--option", "top_q=3", "-m", folder)
    assert isinstance(done.exception, ValueError) and "top_q" in str(done.exception) and not list(tmp_path.iterdir())


def test_a_rate_that_a_format_does_not_have_is_refused(folder, tmp_path):
    done = run("a", "-o", tmp_path / "a.opus", "--sample-rate", 44_100, "-m", folder)
    assert isinstance(done.exception, ValueError) and "48000 Hz, not 44100 Hz" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
