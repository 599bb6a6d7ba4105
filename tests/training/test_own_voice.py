"""A voice of one's own, from a folder of recordings to a folder that speaks: a real run of seconds on a tiny base."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from speech import SENTENCES, small_codec, small_speech, write_recordings

from photophone import TextToSpeechPipeline
from photophone.core.command import Stop
from photophone.data.speech import SpeechDataset
from photophone.loading.registry import builtin_folder
from photophone.training.alignment.lead import clips_with_times, sound_lead
from photophone.training.voice.plan import STEPS, VoicePlan
from photophone.training.voice.run import Ended, train_voice

REPEATS = 7


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Sentences of the teacher as files, one with the words of another, one without any."""
    folder = write_recordings(tmp_path_factory.mktemp("mine"), REPEATS)
    (folder / "0-1.txt").write_text("Somebody said nothing like that to us.")
    (folder / "0-2.txt").unlink()
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(recordings, base, tmp_path_factory):
    """A whole run: ended by a signal in the generator's training, gone on with, and done."""
    output = tmp_path_factory.mktemp("made") / "my-voice"
    plan, said, stop = VoicePlan([recordings], output, str(base), steps=4), [], Stop()

    def say(words):
        said.append(words)
        if words.startswith("4 of 5"):
            stop.signal = 15

    with pytest.raises(Ended):
        train_voice(plan, say, stop)
    assert not (output / "model_index.json").exists()
    written = (output / "training" / "aligned.safetensors").stat().st_mtime_ns
    assert train_voice(plan, said.append) == output
    assert (output / "training" / "aligned.safetensors").stat().st_mtime_ns == written  # not done again
    return plan, said


def test_its_config_tells_the_lead_of_its_times(made):
    plan, _ = made
    lead = TextToSpeechPipeline.from_pretrained(plan.output).speech_generator.config.sound_lead
    data = SpeechDataset(plan.work / "aligned.safetensors")
    assert lead == sound_lead(clips_with_times(data), data.sample_rate)
    assert 0.04 <= lead <= 0.09  # that of the teacher, who speaks the recordings; six sentences tell it roughly
    assert small_speech().config.sound_lead == 0.0  # nothing that the base voice told


def test_it_speaks(made, run, tmp_path, monkeypatch):
    plan, _ = made
    monkeypatch.chdir(plan.output.parent)
    code, output, errors = run("speak", "Light carries sound.", "--model", "my-voice", "--seed", "1", "-o",
                               tmp_path / "light.wav", "--json")
    assert code == 0, errors
    assert json.loads(output)["seconds"][0] > 0.2 and (tmp_path / "light.wav").exists()
    assert {"README.md", "revision.txt", "codec", "speech_generator"} <= {path.name for path in plan.output.iterdir()}


def test_what_is_said_and_listed(made):
    plan, said = made
    assert [words[:6] for words in said if " of 5: " in words] == [f"{n} of 5" for n in (1, 2, 3, 4, 1, 2, 3, 4, 5)]
    assert any("going on in" in words for words in said)
    assert "no text" in (plan.work / "refused.tsv").read_text()
    assert "0-1.wav" in (plan.work / "left_out.tsv").read_text()
    assert any(words.startswith("left out 0-1.wav: ") for words in said)
    data = SpeechDataset(plan.work / "train.safetensors")
    assert len(data) == REPEATS * len(SENTENCES) - 4  # two for validation
    assert plan.generator_steps(data) == 4
    assert VoicePlan([], plan.output).generator_steps(data) == STEPS[0]


def test_samples_are_written_while_it_trains(made):
    files = sorted(path.name for path in (made[0].output / "samples").iterdir())
    assert files[0] == "step-00002-1.wav" and files[-1] == "step-00004-3.wav"


def test_the_weights_with_the_lowest_validation_loss_are_taken(made):
    plan, said = made
    lines = [json.loads(line) for line in (plan.work / "generator" / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["validation_flow_loss"] + line["validation_duration_loss"]
              for line in lines if "validation_flow_loss" in line}
    told = json.loads((plan.work / "best" / "validation.json").read_text())
    assert told["step"] == min(losses, key=losses.get) and told["loss"] == pytest.approx(min(losses.values()), rel=1e-4)
    assert f"the weights of step {told['step']}," in said[-1]
    kept = load_file(plan.work / "best" / "diffusion_pytorch_model.safetensors")
    taken = load_file(plan.output / "speech_generator" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(kept[name].half(), taken[name]) for name in kept)


def test_the_codec_keeps_its_tokens(made, base):
    """Only its decoder is trained, so tokens of the base voice mean the same."""
    before = TextToSpeechPipeline.from_pretrained(base).codec
    after = TextToSpeechPipeline.from_pretrained(made[0].output).codec
    clip = SpeechDataset(made[0].work / "val.safetensors").clip(0)[None, None]
    same = (before.encode(clip).values - after.encode(clip).values).abs().max()
    assert float(same) < 1e-2  # 16 bits
    assert any(not a.equal(b) for a, b in zip(before.decoder.parameters(), after.decoder.parameters()))


def test_a_done_voice_is_left_alone_and_another_order_is_refused(made, recordings, base):
    plan, _ = made
    said = []
    assert train_voice(plan, said.append) == plan.output and len(said) == 1
    with pytest.raises(ValueError, match="steps was 4, now 5"):
        train_voice(VoicePlan([recordings], plan.output, str(base), steps=5), said.append)


def test_recordings_that_make_no_voice(recordings, base, tmp_path):
    two = tmp_path / "two"
    for speaker in ("mia", "tom"):
        (two / speaker).mkdir(parents=True)
        for kind in ("wav", "txt"):
            shutil.copy(recordings / f"0-0.{kind}", two / speaker / f"0-0.{kind}")
    with pytest.raises(ValueError, match=r"of 2 speakers: 'mia' .*choose one with --speaker"):
        train_voice(VoicePlan([two], tmp_path / "a", str(base)), print)
    with pytest.raises(ValueError, match="nobody is called 'ann' in the recordings, but 'mia', 'tom'"):
        train_voice(VoicePlan([two], tmp_path / "b", str(base), speaker="ann"), print)
    with pytest.raises(ValueError, match="a voice needs at least 60 s"):
        train_voice(VoicePlan([two], tmp_path / "c", str(base), speaker="mia"), print)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no training of a voice"):
        train_voice(VoicePlan([two], tmp_path / "full", str(base)), print)


def test_what_ended_in_an_error_may_be_asked_for_otherwise(recordings, base, tmp_path):
    few, output = tmp_path / "few", tmp_path / "a"
    few.mkdir()
    with pytest.raises(ValueError, match="no readable clip"):
        train_voice(VoicePlan([few], output, str(base), seed=1), print)
    for kind in ("wav", "txt"):
        shutil.copy(recordings / f"0-0.{kind}", few / f"0-0.{kind}")
    for seed in (2, 3):  # what was prepared for the first does not stand in the way of the second
        with pytest.raises(ValueError, match="a voice needs at least 60 s"):
            train_voice(VoicePlan([few], output, str(base), seed=seed), print)
        assert not list(output.rglob("*.safetensors"))


def test_the_command(made, recordings, base, run, tmp_path):
    plan, _ = made
    code, output, errors = run("train", "voice", recordings, "-o", plan.output, "-m", base, "--steps", "4")
    assert code == 0, errors
    assert output.strip().endswith(f'speak "Light carries sound." --model {plan.output}')
    code, output, _ = run("train", "voice", recordings, "-o", plan.output, "-m", base, "--steps", "4", "--json")
    assert code == 0 and json.loads(output)["model"] == str(plan.output)
    code, _, errors = run("train", "voice", recordings, "-o", tmp_path / "x", "--minutes", "0")
    assert code == 2 and "--minutes must be above 0" in errors
    code, _, errors = run("train", "voice", tmp_path / "nowhere", "-o", tmp_path / "y")
    assert code == 2 and "nowhere" in errors


def test_the_built_in_voice_can_be_started_from():
    plan = VoicePlan([], "x")
    assert plan.base_folder == builtin_folder("photophone/tiny-speech")
    assert (plan.base_folder / "codec" / "config.json").exists()
