"""Speech tasks from the settings of a config: what the training scripts run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from photophone.codecs.bicodec.model import BiCodec
from photophone.codecs.hift.model import HiFT
from photophone.codecs.speech_units.s3 import S3Tokenizer
from photophone.codecs.stream_codec.model import StreamCodec
from photophone.codecs.vocos.model import Vocos
from photophone.core.model import Model
from photophone.core.tokens import Tokens
from photophone.data.mixing import MixingConfig
from photophone.data.speech import SpeechDataset
from photophone.data.speech_examples import SpeechExamples
from photophone.generators.enhancer.live import LiveEnhancer
from photophone.generators.enhancer.model import SpeechEnhancer
from photophone.generators.few_steps import without_flow_map
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.generators.speech_ar.voices import single_voice
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import find
from photophone.loading.saved import is_saved_model, saved_class
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task
from photophone.training.losses.speech_features import WhisperFeatures
from photophone.training.tasks.bicodec_units import BiCodecUnitsTask
from photophone.training.tasks.codec import CodecTask, CodecWeights
from photophone.training.tasks.enhancer import EnhancerTask, EnhancerWeights
from photophone.training.tasks.guided_lm import GuidedLMTask
from photophone.training.tasks.lora import LoraSettings
from photophone.training.tasks.models import GENERATORS, build_model, choose_class, official_source
from photophone.training.tasks.original_export import Release
from photophone.training.tasks.speech_generator import AlignedSpeech, SpeechGeneratorTask
from photophone.training.tasks.speech_lm import SpeechLMTask
from photophone.training.tasks.speech_units import SpeechUnitsTask
from photophone.training.tasks.vocoder import VocoderTask

CODECS = {"bicodec": BiCodec, "stream": StreamCodec, "vocos": Vocos}
"""What ``task.codec`` of a codec's training may be."""
PARTS = {"bicodec-units": (BiCodec, BiCodecUnitsTask), "hift": (HiFT, VocoderTask),
         "s3-tokenizer": (S3Tokenizer, SpeechUnitsTask)}
"""And parts of Spark-TTS and CosyVoice, each with a task of its own."""


def take(settings: dict[str, Any], name: str) -> Any:
    """Remove a setting that must be there.

    Raises:
        ValueError: it is not.
    """
    if name not in settings:
        raise ValueError(f"task: the setting {name!r} is missing")
    return settings.pop(name)


def build_part(model_class: type, config: TrainConfig, **sizes: Any) -> Any:
    """A model of a class: from ``config.init_from``, or with random weights.

    Args:
        sizes: arguments that follow from the data; ``config.model`` goes before them.
    """
    arguments = {**sizes, **config.model}
    if config.init_from:
        return model_class.from_pretrained(config.init_from, **arguments)
    return model_class(**arguments)


def codec_task(config: TrainConfig) -> Task:
    """The task of ``train_codec.py``.

    ``task`` holds the fields of :class:`CodecWeights`, and beside them: ``codec`` (a key of ``CODECS``, stream when not
    given); ``more_data`` (further prepared files); ``freeze_encoder``. Where ``codec`` is a key of ``PARTS``, it holds
    the settings of that task in place of weights.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings = dict(config.task)
    kind = settings.pop("codec", "stream")
    if kind not in CODECS and kind not in PARTS:
        raise ValueError(f"task.codec must be one of {', '.join([*CODECS, *PARTS])}, got {kind!r}")
    data = SpeechDataset(config.data, *settings.pop("more_data", []))
    validation = SpeechDataset(config.validation) if config.validation else None
    if kind in PARTS:
        part, task = PARTS[kind]
        return task(build_part(part, config), data, validation, **settings)
    freeze_encoder = settings.pop("freeze_encoder", False)
    codec = build_part(CODECS[kind], config)
    return CodecTask(codec, data, validation, CodecWeights(**settings), freeze_encoder)


def enhancer_task(config: TrainConfig) -> EnhancerTask:
    """The task of ``train_enhancer.py``.

    ``task`` holds the fields of :class:`EnhancerWeights`, and beside them: ``codec`` (folder of the codec that makes
    the clean tokens), or ``live: true`` for a :class:`LiveEnhancer`, which has none; ``noise`` and ``validation_noise``
    (prepared files); ``mixing`` (fields of :class:`photophone.data.mixing.MixingConfig`); ``more_data`` and
    ``more_share`` (files of a further voice, and their share); ``recogniser`` (of the loss ``words``).

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings = dict(config.task)
    live = settings.pop("live", False)
    codec = None if live else StreamCodec.from_pretrained(take(settings, "codec"))
    noise, held_apart = SpeechDataset(take(settings, "noise")), settings.pop("validation_noise", None)
    more, share = settings.pop("more_data", []), settings.pop("more_share", 0.25)
    recogniser = settings.pop("recogniser", None)
    features = WhisperFeatures(recogniser) if recogniser else None
    mixing = MixingConfig(**settings.pop("mixing", {}))
    model = live_enhancer(config) if live else build_part(
        SpeechEnhancer, config, token_dim=codec.token_dim, token_hop=codec.hop_length, sample_rate=codec.sample_rate)
    speech, own_clips = SpeechDataset(config.data, *more), len(SpeechDataset(config.data))
    validation = None
    if config.validation and held_apart:
        validation = SpeechDataset(config.validation), SpeechDataset(held_apart)
    task = EnhancerTask(model, codec, speech, noise, validation, mixing, EnhancerWeights(**settings), own_clips, share,
                        features)
    if not config.init_from:
        task.fit_statistics()
    return task


def live_enhancer(config: TrainConfig) -> LiveEnhancer:
    """From ``config.init_from``, which may be the folder of a :class:`SpeechEnhancer`, or with random weights."""
    if config.init_from and saved_class(config.init_from, Model) is SpeechEnhancer:
        return LiveEnhancer.from_offline(SpeechEnhancer.from_pretrained(config.init_from))
    return build_part(LiveEnhancer, config)


def speech_generator_task(config: TrainConfig) -> Task:
    """The task of ``train_tts.py``: of the family that ``model`` names, or that ``init_from`` holds.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    if config.init_from and is_saved_model(config.init_from):
        model_class = saved_class(config.init_from, Model)
    elif config.init_from:
        model_class = find(official_source(config.model, config.init_from)[0]).load_class()
    else:
        model_class, _ = choose_class(config.model, GENERATORS, "speech-ar")
    return aligned_speech_task(config) if issubclass(model_class, SpeechFlowAR) else speech_lm_task(config)


def speech_lm_task(config: TrainConfig) -> SpeechLMTask:
    """A language model of speech, on files of :mod:`photophone.data.speech_examples`.

    ``task`` holds ``positions``, see :class:`SpeechLMTask`, ``more_data`` (further files) and ``lora`` (fields of
    :class:`LoraSettings`). ``init_from`` may be official: a published folder, which the export then completes, a file,
    a hub id (with ``model.name``), or a name of the registry. With ``guides`` it holds the
    settings of :class:`GuidedLMTask` as well.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings = dict(config.task)
    data = SpeechExamples(config.data, *settings.pop("more_data", []))
    validation = SpeechExamples(config.validation) if config.validation else None
    lora = settings.pop("lora", None)
    model = build_model(config.model, GENERATORS, "speech-ar", init_from=config.init_from)
    task = GuidedLMTask if "guides" in settings else SpeechLMTask
    return task(model, data, validation, lora=None if lora is None else LoraSettings(**lora),
                release=release_of(config), base=config.init_from, **settings)


def release_of(config: TrainConfig) -> Release | None:
    """The published folder that a training starts from, if it starts from one."""
    if not config.init_from or is_saved_model(config.init_from) or not Path(config.init_from).is_dir():
        return None
    name, folder = official_source(config.model, config.init_from)
    return Release(Path(folder), find_checkpoint(find(name), folder)[0])


def aligned_speech_task(config: TrainConfig) -> SpeechGeneratorTask:
    """Phonemes to codec tokens.

    ``task`` holds ``codec`` (its folder), ``tokens`` (a file of ``tokenize_speech.py``) and ``validation_tokens``;
    ``more_data`` and ``more_tokens`` (further files and the tokens of each); for a model with named voices also
    ``speakers``, the voice of each speaker of the data (when not given, each has the voice of its own name). ``voice``
    names the one voice of ``init_from`` that learns: the model has no others then.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings = dict(config.task)
    codec = StreamCodec.from_pretrained(take(settings, "codec")).eval()
    tokens, validation_tokens = take(settings, "tokens"), settings.pop("validation_tokens", None)
    more_data, more_tokens = settings.pop("more_data", []), settings.pop("more_tokens", [])
    speakers, voice = settings.pop("speakers", None), settings.pop("voice", None)
    if settings:
        raise ValueError(f"unknown task settings {sorted(settings)}; known are codec, tokens, validation_tokens, "
                         "more_data, more_tokens, speakers, voice")
    model = build_model(config.model, GENERATORS, "speech-ar", init_from=config.init_from,
                        sizes={"token_dim": codec.token_dim})
    model = without_flow_map(model if voice is None else single_voice(model, voice))

    voices = speaker_voices(model.accents, speakers)

    def aligned(data: list[str], paths: list[str]) -> AlignedSpeech:
        return AlignedSpeech(SpeechDataset(*data), joined_tokens([Tokens.load(path) for path in paths]),
                             codec.frame_rate, model.config.patch_size, voices)

    data, validation = aligned([config.data, *more_data], [tokens, *more_tokens]), None
    if config.validation and validation_tokens:
        validation = aligned([config.validation], [validation_tokens])
    if not config.init_from:
        model.fit_statistics(Tokens(torch.cat(data.values)[None]))
    return SpeechGeneratorTask(model, data, validation, codec)


def joined_tokens(parts: list[Tokens]) -> Tokens:
    """The rows of several, padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    rows = [part.values[row, :int(length)] for part in parts for row, length in enumerate(part.lengths)]
    return Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.cat([part.lengths for part in parts]))


def speaker_voices(voices: Iterable[str], speakers: dict[str, str] | None) -> dict[str, torch.Tensor] | None:
    """Float (V,) of each speaker of the data, 1 at the number of the voice; None for a model without names of voices.

    Args:
        voices: names in the model, in their order.
        speakers: the voice of each speaker; None: that of its own name.

    Raises:
        ValueError: speakers for a model without names, or a voice that it does not have.
    """
    voices = list(voices)
    if not voices:
        if speakers:
            raise ValueError("task.speakers needs a model with named voices; set model.voices, such as "
                             "[[heart, american]]")
        return None
    rows = dict(zip(voices, torch.eye(len(voices)), strict=True))
    speakers = speakers or {name: name for name in voices}
    unknown = sorted(set(speakers.values()) - set(rows))
    if unknown:
        raise ValueError(f"task.speakers names the voices {', '.join(unknown)}; model.voices has {', '.join(rows)}")
    return {speaker: rows[name] for speaker, name in speakers.items()}
