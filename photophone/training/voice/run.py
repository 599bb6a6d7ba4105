"""From recordings to a voice, stage by stage; each writes a file or a folder, and is not done again when that is there.

Recordings are prepared and aligned; the codec's decoder learns how the voice sounds, and the generator how it speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.command import Stop
from photophone.core.files import atomic_folder, atomic_write
from photophone.core.weight_files import read_json_object
from photophone.data.clip_cleaning import VoiceClips
from photophone.data.speech import SpeechDataset, prepare_speech, speakers_of, write_prepared
from photophone.training.alignment.clips import align_prepared, alignment_picture
from photophone.training.alignment.lead import clips_with_times, sound_lead
from photophone.training.alignment.model import PhonemeAligner
from photophone.training.loop.checkpoint import list_checkpoints
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task
from photophone.training.loop.trainer import Trainer
from photophone.training.release import speech_pipeline, write_release
from photophone.training.tasks.speech_recipes import aligned_speech_task, codec_task
from photophone.training.tokenizing import tokens_of
from photophone.training.voice.plan import ALIGNER, BATCH_SIZE, HELD_APART, VoicePlan
from photophone.training.voice.task import VoiceTask

LEAST_SECONDS = 60.0
"""Of speech that fits its text: less makes no voice."""
TOLD = 5
"""Clips that are left out and named; the lists hold all."""
Say = Callable[[str], None]


class Ended(Exception):
    """A signal ended the training; what was done is saved."""


def train_voice(plan: VoicePlan, say: Say = print, stop: Stop | None = None) -> Path:
    """Make a voice, or go on making it.

    Args:
        plan: what is asked for.
        say: gets sentences for the user.
        stop: when a signal asks for it, a training ends after its step.

    Returns:
        The folder, which ``photophone speak --model`` reads.

    Raises:
        ValueError: recordings that make no voice, or a folder of something else.
        Ended: see ``stop``.
    """
    if plan.begin():
        say(f"going on in {plan.output}")
    if (plan.output / "model_index.json").exists():
        return plan.output
    say("1 of 5: the recordings")
    prepare(plan, say)
    _go_on(stop)
    say("2 of 5: when each phoneme is said")
    align(plan, say)
    _go_on(stop)
    data = SpeechDataset(plan.work / "train.safetensors")
    steps = plan.generator_steps(data)
    minutes = len(data.audio) / data.sample_rate / 60
    codec = plan.codec_config(steps)
    say(f"3 of 5: how the voice sounds: {codec.steps} steps of the codec on {minutes:.1f} min")
    train(codec_task, codec, plan.work / "codec", stop)
    for part in ("train", "val"):
        tokenize(plan.work / f"{part}.safetensors", plan.work / "codec" / "export",
                 plan.work / f"{part}-tokens.safetensors")
    say(f"4 of 5: how the voice speaks: {steps} steps of the generator; samples in {plan.output / 'samples'}")
    train(lambda config: voice_task(config, plan), plan.generator_config(steps), plan.work / "generator", stop)
    say(f"5 of 5: putting it together, with the weights of step {best_step(plan)}, which held-apart clips fit best")
    release(plan)
    return plan.output


def _go_on(stop: Stop | None) -> None:
    if stop:
        raise Ended


def prepare(plan: VoicePlan, say: Say) -> None:
    """Read the recordings of one speaker.

    Raises:
        ValueError: there are several speakers, or no speech.
    """
    target = plan.recordings_file
    if target.exists():
        return
    rate = int(read_json_object(plan.base_folder / "codec" / "config.json")["sample_rate"])
    refused, chooser = {}, VoiceClips(plan.speaker, plan.minutes)
    try:
        prepare_speech(plan.recordings, target, rate, clean=chooser, refused=refused)
    except ValueError:
        if plan.speaker is not None and chooser.seen and plan.speaker not in chooser.seen:
            raise ValueError(f"nobody is called {plan.speaker!r} in the recordings, but "
                             f"{', '.join(map(repr, list(chooser.seen)[:TOLD]))}") from None
        raise
    data = SpeechDataset(target)
    speakers = speakers_of(data.fields, data.lengths, data.sample_rate)
    if len(speakers) > 1:
        target.unlink()
        told = ", ".join(f"{name!r} ({seconds / 60:.1f} min)" for name, (_, seconds) in list(speakers.items())[:TOLD])
        raise ValueError(f"the recordings are of {len(speakers)} speakers: {told}; choose one with --speaker")
    list_clips(plan.work / "refused.tsv", refused, say)
    (clips, seconds), = speakers.values()
    say(f"{clips} clips, {seconds / 60:.1f} min of {next(iter(speakers)) or 'one speaker'}; {len(refused)} refused")


def list_clips(file: Path, reasons: dict[str, str], say: Say) -> None:
    """Write the names of clips with what is wrong with them, and tell the first."""
    with atomic_write(file) as partial:
        partial.write_text("".join(f"{name}\t{reason}\n" for name, reason in reasons.items()), encoding="utf-8")
    for name, reason in list(reasons.items())[:TOLD]:
        say(f"left out {name}: {reason}")
    if len(reasons) > TOLD:
        say(f"... and {len(reasons) - TOLD} more, see {file}")


def align(plan: VoicePlan, say: Say) -> None:
    """Find the times of all phonemes, leave out clips that do not fit their text, hold some apart.

    Raises:
        ValueError: too little speech is left.
    """
    source, target = plan.recordings_file, plan.work / "aligned.safetensors"
    if not target.exists():
        left_out = align_prepared(PhonemeAligner.from_pretrained(ALIGNER), source, target)
        list_clips(plan.work / "left_out.tsv", {
            name: reason if fit is None else f"{fit:.2f}: {reason}" for name, (fit, reason) in left_out.items()}, say)
    if (plan.work / "train.safetensors").exists():
        return
    data = SpeechDataset(target)
    seconds = len(data.audio) / data.sample_rate
    if seconds < LEAST_SECONDS:
        source.unlink(missing_ok=True)  # there will be more of them next time
        target.unlink()
        raise ValueError(f"{seconds:.0f} s of speech fit their texts; a voice needs at least {LEAST_SECONDS:.0f} s, "
                         "and five minutes to sound well")
    try:
        alignment_picture(data, plan.work / "alignment.png")
    except ValueError as error:
        say(f"no picture of the alignment: {error}")
    held = min(16, max(1, round(HELD_APART * len(data))))
    places = set(np.linspace(0, len(data) - 1, held).round().astype(int).tolist())
    for part in ("val", "train"):
        chosen = [index for index in range(len(data)) if (index in places) == (part == "val")]
        write_prepared(plan.work / f"{part}.safetensors",
                       [data.samples(index).numpy() for index in chosen], [data.fields[index] for index in chosen],
                       data.sample_rate)


def train(build: Callable[[TrainConfig], Task], config: TrainConfig, folder: Path, stop: Stop | None) -> None:
    """Train, or go on from the newest checkpoint.

    Raises:
        Ended: a signal asked for it.
    """
    if (folder / "done").exists():
        return
    torch.manual_seed(config.seed)
    trainer = Trainer(build(config), config, folder, resume=bool(list_checkpoints(folder / "checkpoints")))
    if trainer.run(stop=stop) < config.steps:
        raise Ended
    with atomic_write(folder / "done") as partial:
        partial.write_text(f"{config.steps} steps\n")


def voice_task(config: TrainConfig, plan: VoicePlan) -> VoiceTask:
    """The task of the generator."""
    codec = StreamCodec.from_pretrained(plan.work / "codec" / "export").eval()
    return VoiceTask(aligned_speech_task(config), codec, plan.output / "samples", plan.work / "best")


def tokenize(source: Path, codec: Path, output: Path) -> None:
    """Tokens of a prepared file; not again when they are there."""
    if not output.exists():
        tokens_of(SpeechDataset(source), StreamCodec.from_pretrained(codec).eval(), BATCH_SIZE).save(output)


def best_step(plan: VoicePlan) -> int:
    """Of the generator's weights that are taken."""
    return int(read_json_object(plan.work / "best" / "validation.json")["step"])


def release(plan: VoicePlan) -> None:
    """Put codec and generator together in the folder; ``model_index.json`` comes last, so that half a voice is none.

    The config tells by how much the voice's sounds come before their tokens: what its recordings have with the times
    that it learned from.
    """
    pipeline = speech_pipeline(plan.work / "codec" / "export", plan.work / "best")
    data = SpeechDataset(plan.work / "aligned.safetensors")
    pipeline.speech_generator.register_to_config(sound_lead=sound_lead(clips_with_times(data), data.sample_rate))
    with atomic_folder(plan.work / "release", overwrite=True) as partial:
        write_release(pipeline, partial, plan.output.name, "1.0")
    parts = sorted((plan.work / "release").iterdir(), key=lambda part: part.name == "model_index.json")
    for part in parts:
        target = plan.output / part.name
        if target.is_dir():  # of a run that was killed here
            for inner in part.iterdir():
                os.replace(inner, target / inner.name)
        else:
            os.replace(part, target)
