"""By how much sounds come before their times: measured on signals, on the teacher, and on voices that tell times."""

import copy

import numpy as np
import pytest
import torch
from speech import SENTENCES, small_codec, small_speech, write_speech

from photophone import TextToSpeechPipeline
from photophone.data.speech import SpeechDataset
from photophone.generators.few_steps import without_flow_map
from photophone.training.alignment.clips import align_prepared
from photophone.training.alignment.lead import clips_with_times, explained, sound_lead
from photophone.training.alignment.model import PhonemeAligner
from photophone.training.voice.plan import ALIGNER

RATE = 16_000
TONES = {"a": 300.0, "s": 4000.0, "m": 700.0, "t": 2200.0, "_": 0.0}


def sung(lead, clips=6):
    """Phonemes as tones that are heard ``lead`` seconds before their times."""
    draws = np.random.default_rng(0)
    for _ in range(clips):
        phonemes = "_" + "".join(draws.choice(list("asmt"), 12)) + "_"
        seconds = np.round(draws.uniform(0.06, 0.2, len(phonemes)), 4)
        seconds[[0, -1]] = 0.4
        ends = np.cumsum(seconds)
        moments = np.arange(round(ends[-1] * RATE)) / RATE
        heard = np.searchsorted(ends, moments + lead, side="right").clip(max=len(phonemes) - 1)
        pitch = np.array([TONES[symbol] for symbol in phonemes])[heard]
        audio = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (pitch > 0)
        yield audio.astype(np.float32), phonemes, seconds.tolist()


@pytest.mark.parametrize("lead", [-0.03, 0.0, 0.05, 0.12])
def test_the_lead_of_signals_is_found(lead):
    assert abs(sound_lead(sung(lead), RATE) - lead) <= 0.005


def test_without_clips_there_is_nothing_to_measure():
    with pytest.raises(ValueError, match="no clips"):
        sound_lead([], RATE)


def test_what_is_explained_is_a_share_of_the_variance():
    frames = torch.tensor([[0.0, 1.0], [2.0, 1.0], [10.0, 5.0], [12.0, 5.0]], dtype=torch.float64)
    whole, within = float(((frames - frames.mean(0)) ** 2).sum()), 4.0
    assert explained(frames, torch.tensor([3, 3, 7, 7])) == pytest.approx(1 - within / whole)
    assert explained(frames, torch.tensor([3, 3, 3, 3])) == pytest.approx(0)


def test_the_aligner_has_the_lead_of_its_teacher(tmp_path):
    """Its times of recordings are the teacher's own, and so is what they lack."""
    teacher = SpeechDataset(write_speech(tmp_path / "a.safetensors"))
    align_prepared(PhonemeAligner.from_pretrained(ALIGNER), tmp_path / "a.safetensors", tmp_path / "b.safetensors", -9)
    aligned = SpeechDataset(tmp_path / "b.safetensors")
    assert len(aligned) == len(SENTENCES)
    leads = [sound_lead(clips_with_times(data), data.sample_rate) for data in (teacher, aligned)]
    assert all(0.035 <= lead <= 0.065 for lead in leads), leads


def timed(result):
    """Clips, with the times of sounds that a result tells, and pauses between them."""
    for audio, pieces in zip(result.audio, result.sentences, strict=True):
        phonemes, seconds, place = [], [], 0.0
        for word in (word for piece in pieces for word in piece.words):
            for sound in word.phonemes:
                if sound.start > place or not phonemes:
                    phonemes.append(" ")
                    seconds.append(sound.start - place)
                symbols = sound.text.lstrip("ˈˌ") or sound.text
                phonemes.append(symbols)
                seconds += [(sound.end - sound.start) / len(symbols)] * len(symbols)
                place = sound.end
        known = "".join(phonemes)
        yield audio, f"_{known}_", [0.0, *seconds, len(audio) / result.sample_rate - place]


TEXTS = ["The first train leaves before the sun is up.", "My brother keeps his bicycle in the kitchen.",
         "She opened the window to let in the evening air.", "A small dog followed us all the way home.",
         "There is a hole in the bottom of this bucket.", "Rain fell on the roof for most of the night."]


def test_the_built_in_voice_tells_when_its_sounds_are_heard():
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(TEXTS))]
    right = sound_lead(timed(pipeline(TEXTS, generator=generators)), pipeline.sample_rate)
    pipeline.speech_generator.register_to_config(sound_lead=0.0)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(TEXTS))]
    late = sound_lead(timed(pipeline(TEXTS, generator=generators)), pipeline.sample_rate)
    assert abs(right) <= 0.015 and abs(late - 0.06) <= 0.015, (right, late)


def test_times_are_moved_by_what_the_config_says(tmp_path):
    voice = copy.deepcopy(small_speech())
    plain = TextToSpeechPipeline(voice, small_codec()).explain(TEXTS[0])
    voice.register_to_config(sound_lead=0.07)
    TextToSpeechPipeline(voice, small_codec()).save_pretrained(tmp_path)
    moved = TextToSpeechPipeline.from_pretrained(tmp_path).explain(TEXTS[0])
    for one, other in zip(plain[0].words, moved[0].words, strict=True):
        assert other.end == pytest.approx(max(0.0, one.end - 0.07))
    assert without_flow_map(voice).config.sound_lead == 0.07
