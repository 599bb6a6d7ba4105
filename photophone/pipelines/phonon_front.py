"""Phonon in a pipeline: voices from files, one piece of text after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.codecs.continuous_mimi.model import LatentDecoder
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.pocket_tts.condition import VoicedText
from photophone.generators.pocket_tts.phonon import Phonon
from photophone.generators.sampler import Sampler
from photophone.loading.chains import find_sources, read_config, settings_of
from photophone.loading.checkpoints import read_state
from photophone.loading.entry import Chain
from photophone.loading.registry import find, load_original
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.pocket_front import PocketSpeech
from photophone.pipelines.speech_chains import beside
from photophone.pipelines.speech_faults import Limit, token_faults
from photophone.pipelines.speech_fronts import Request, SpokenVoice, Voice
from photophone.text.pocket_tts import LANGUAGES, load_pocket_tokenizer
from photophone.text.sparktts import VoiceAttributes
from photophone.text.voxcpm import WrittenPiece, check_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ("voice",)
VOICE_FILE, VOICE_KEY = "default-voice.safetensors", "speaker_wavs"
CODES = {"fr": "french", "de": "german", "es": "spanish", "pt": "portuguese"}
MARKER = re.compile(r"<\|[^|<>]*\|>")
FADE_SECONDS = 0.005
"""At the begin of each piece: a fresh decoder starts with a small step."""
MOST_VOICE_FRAMES = 1000


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a published Phonon.

    Args:
        name: of the generator in the registry.
        chain: its chain.
        files: what users gave by the chain's names, and ``text_tokenizer`` and ``voice``, a file.
        folder: the published folder or a hub id; None: the registry's.
        hub: revision, cache_dir and local_files_only.
        configs: settings that replace those of the release, by the names of the chain.

    Returns:
        The components, and the commit of what came from the hub.

    Raises:
        ValueError: files that are missing or do not fit.
    """
    folder = folder or find(name).hub_id
    voice = files.get("voice") or _voice_of_release(name, folder, hub)
    frames = None if voice is None else read_voice_file(voice)
    sources, commit = find_sources(chain, dict(files), folder, **hub)
    official = read_config(folder) if Path(folder).is_dir() else read_config(beside(name, folder, "config.json",
                                                                                    hub).parent)
    settings = {**settings_of(name, official), **configs.get("phonon", {})}
    if frames is not None:
        settings["voice_frames"] = len(frames)
    model = load_original(name, sources["phonon"], **settings)
    if frames is not None:
        if frames.shape[1] != model.config.voice_dim:
            raise ValueError(f"the voice {voice} has {frames.shape[1]} channels, the model reads "
                             f"{model.config.voice_dim}")
        model.default_voice.copy_(frames)
    codec = load_original(chain.tokenizer[1], sources["codec"], **configs.get("codec", {}))
    vocabulary = load_pocket_tokenizer(files.get("text_tokenizer") or folder, find(name).files[1], **hub)
    return {"speech_generator": model, "codec": codec, "text_tokenizer": vocabulary}, commit


def _voice_of_release(name: str, folder: str | Path, hub: Mapping[str, Any]) -> Path | None:
    """The voice that is published with the weights; None in a local folder without one."""
    if Path(folder).is_dir() and not (Path(folder) / VOICE_FILE).is_file():
        return None
    return beside(name, folder, VOICE_FILE, hub)


def read_voice_file(path: str | Path) -> Tensor:
    """Frames float (N, D) of a published voice, a safetensors file with ``speaker_wavs`` (1, D, N).

    Raises:
        ValueError: no such file, or another content.
    """
    if not Path(path).is_file():
        raise ValueError(f"no such voice: {path}; Phonon's are files of gradium/phonon-voices")
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} is no voice of Phonon: those are .safetensors files of gradium/phonon-voices; the "
                         "encoder that makes them of recordings is not published")
    frames = read_state(path).get(VOICE_KEY)
    if frames is None or frames.ndim != 3 or len(frames) != 1 or not frames.is_floating_point():
        raise ValueError(f"{path} is no voice of Phonon: it must hold {VOICE_KEY}, float (1, D, N)")
    frames = frames[0].T.float()
    if not 1 <= len(frames) <= MOST_VOICE_FRAMES or not frames.isfinite().all():
        raise ValueError(f"{path}: a voice has 1 to {MOST_VOICE_FRAMES} frames of finite numbers, got {len(frames)}")
    return frames


def front(pipeline: TextToSpeechPipeline) -> PhononSpeech:
    """What stands between texts and the generator."""
    return PhononSpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer, pipeline.source["model"])


@dataclass(frozen=True)
class PhononVoice(SpokenVoice):
    """A voice as Phonon reads it.

    Attributes:
        tokens: float (N, D); empty: none, the model takes any.
        text: None, the words of a voice are not read.
        name: of its file.
    """

    name: str | None = None

    def facts(self) -> dict[str, Any]:
        return {"voice": self.name, "voice_tokens": len(self.tokens)}


class PhononSpeech(PieceFront):
    """Words and a voice from a file, for Phonon.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
        model: name in the registry, which tells the language.
    """

    def __init__(self, generator: Phonon, codec: LatentDecoder, tokenizer: PreTrainedTokenizerBase,
                 model: str | None) -> None:
        self.generator, self.codec, self.tokenizer = generator, codec, tokenizer
        language = CODES.get((model or "").rpartition("-")[2], "english")
        self.pocket = PocketSpeech(generator, codec, tokenizer, LANGUAGES[language])

    def check(self, text: str) -> None:
        """Refuse what has no words, or holds marks of the vocabulary."""
        check_words(text)
        if found := MARKER.search(text):
            raise ValueError(f"the text holds {found[0]!r}, which Phonon takes for one of its marks; leave it out")

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return self.pocket.pieces(text)

    def whole_voice(self, voice: Voice | VoiceAttributes | None, instruction: str | None) -> PhononVoice:
        if instruction is not None:
            raise ValueError("Phonon takes no instruction; leave it out")
        if voice is None:
            known = self.generator.default_voice if self.generator.has_voice else self.generator.default_voice[:0]
            return PhononVoice(known, None, "default" if len(known) else None)
        return self.read_voice(voice)

    def read_voice(self, voice: Voice | VoiceAttributes) -> PhononVoice:
        """A published voice.

        Raises:
            ValueError: a recording or a description, or a voice of other channels.
        """
        if not isinstance(voice, Voice) or not isinstance(voice.audio, str | Path):
            raise ValueError("Phonon speaks with voices from files of gradium/phonon-voices: "
                             "voice=Voice('NAME.safetensors'); recordings cannot be read")
        if voice.text is not None:
            raise ValueError("the words of a voice of Phonon are not read; leave text out")
        frames, width = read_voice_file(voice.audio), self.generator.config.voice_dim
        if frames.shape[1] != width:
            raise ValueError(f"the voice {voice.audio} has {frames.shape[1]} channels, the model reads {width}")
        return PhononVoice(frames.to(self.generator.device), None, Path(voice.audio).name)

    def first_decides(self, voice: SpokenVoice | None) -> bool:
        """No: without a voice each piece has its own."""
        return False

    def condition_of(self, requests: list[Request]) -> VoicedText:
        """What the generator reads."""
        return self.pocket.condition([request if len(request.voice.tokens) else replace(request, voice=None)
                                      for request in requests])

    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]) -> list[Tensor]:
        """Frames (N, D) of each piece."""
        condition = self.condition_of(requests)
        noise = SeededNoise.from_seeds(seeds, self.generator.device)
        tokens = self.generator.generate(condition, noise=noise, sampler=sampler)
        rows = [values[mask] for values, mask in zip(tokens.values, tokens.mask)]
        for request, row, most, note in zip(requests, rows, condition.max_patches.tolist(), made):
            self._judge(request, row, most, note)
        return rows

    def _judge(self, request: Request, frames: Tensor, most: int, made: Made) -> None:
        made.faults += token_faults(request.piece.text, frames, rate=self.codec.frame_rate, limit=Limit(most),
                                    unit="frames")

    def sound_of(self, request: Request, written: Tensor, seed: int, made: Made) -> Tensor:
        """Speech (T,) of frames."""
        return self._faded(self.codec.decode(Tokens(written[None]))[0, 0])

    def stream(self, request: Request, seed: int, sampler: Sampler, made: Made) -> Iterator[Tensor]:
        """A frame at a time."""
        condition, made_frames = self.condition_of([request]), []
        noise = SeededNoise.from_seeds([seed], self.generator.device)
        with self.codec.streaming(1):
            for part in self.generator.stream(condition, noise=noise, sampler=sampler):
                audio = self.codec.decode(Tokens(part.values))[0, 0]
                yield audio if made_frames else self._faded(audio)
                made_frames.append(part.values[0])
        frames = torch.cat(made_frames) if made_frames else torch.zeros(0)
        self._judge(request, frames, int(condition.max_patches[0]), made)

    def _faded(self, audio: Tensor) -> Tensor:
        """The begin of a piece."""
        count = min(int(FADE_SECONDS * self.codec.sample_rate), len(audio))
        return torch.cat([audio[:count] * torch.linspace(0, 1, count, device=audio.device), audio[count:]])
