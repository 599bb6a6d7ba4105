"""KALL-E in a pipeline: a recorded voice with its words, or one that the model finds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.codecs.flow_vae.model import FlowVAE
from photophone.core.noise import Noise, SeededNoise
from photophone.core.tokens import Tokens
from photophone.core.weight_files import read_json_object
from photophone.generators.kalle.model import KallE, draw
from photophone.generators.sampler import Sampler
from photophone.loading.chains import find_sources
from photophone.loading.entry import Chain
from photophone.loading.registry import find, load_original
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_chains import vocabulary_place
from photophone.pipelines.speech_faults import Limit, token_faults
from photophone.pipelines.speech_fronts import Request, SpokenVoice, Voice, voice_samples
from photophone.text.sparktts import VoiceAttributes
from photophone.text.voxcpm import check_words, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS: tuple[str, ...] = ()
WEIGHTS, VOCABULARY, CODEC_CONFIGS = "ckpt", "tokenizer_dir", "configs/flowvae*.json"
"""Where the authors' folder has them."""
TEXT_END, SPEECH_START = "<|SPEECH_UNDERSTANDING_END|>", "<|SPEECH_GENERATION_START|>"
MARKER = re.compile(r"<\|[^|<>]*\|>")
FRAMES_PER_ID, SPARE_FRAMES, LEAST_FRAMES = 12, 40, 0.5
"""Speech has at most so many frames for each id of the text, and some more; with fewer than the last, words are
missing."""
LEAST_VOICE_FRAMES = 3


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for KALL-E, see
    :func:`photophone.pipelines.phonon_front.load_parts`.

    The folder is the authors' repository with its ``ckpt``, or one with the files beside each other.
    """
    given = dict(files)
    for key, part in chain.files.items():
        place = Path(folder or "") / WEIGHTS / find(part).files[0]
        if folder is not None and given.get(key) is None and place.is_file():
            given[key] = place
    inside = folder is None or not Path(folder).is_dir() or (Path(folder) / VOCABULARY).is_dir()
    place = given.get("text_tokenizer") or (vocabulary_place(name, folder, VOCABULARY, hub) if inside else folder)
    vocabulary = load_tokenizer(place, **hub)
    mark_ids(vocabulary)
    sources, commit = find_sources(chain, given, folder, **hub)
    (key,), (codec, entry) = chain.generator, chain.tokenizer
    settings = {} if folder is None else _codec_settings(Path(folder))
    return {"speech_generator": load_original(name, sources[key], **configs.get(key, {})),
            "codec": load_original(entry, sources[codec], **{**settings, **configs.get(codec, {})}),
            "text_tokenizer": vocabulary}, commit


def _codec_settings(folder: Path) -> dict[str, Any]:
    """Arguments of the codec from the authors' settings, if the folder has them."""
    found = sorted(folder.glob(CODEC_CONFIGS)) if folder.is_dir() else []
    if not found:
        return {}
    try:
        return FlowVAE.convert_config(read_json_object(found[0]))
    except KeyError as error:
        raise ValueError(f"{found[0]} lacks {error.args[0]!r}; take the file of the authors' repository, or leave it "
                         "out for the published sizes") from error


def mark_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the marks that end a text and start speech.

    Raises:
        ValueError: the vocabulary has none.
    """
    known = tokenizer.get_vocab()
    if missing := [mark for mark in (TEXT_END, SPEECH_START) if mark not in known]:
        raise ValueError(f"the vocabulary has no {missing[0]}; take the tokenizer_dir that was published with KALL-E")
    return [known[TEXT_END], known[SPEECH_START]]


def front(pipeline: TextToSpeechPipeline) -> KallESpeech:
    """What stands between texts and the generator."""
    return KallESpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer)


@dataclass(frozen=True)
class KallEVoice(SpokenVoice):
    """A voice as KALL-E reads it.

    Attributes:
        tokens: float (N, 2D), means and log standard deviations of a recording's frames, of which each piece draws its
            own; (N, D) of speech that was made; empty: the model finds a voice.
        text: its words.
    """


class KallESpeech(PieceFront):
    """Words and perhaps a recorded voice with its words, for KALL-E.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
    """

    def __init__(self, generator: KallE, codec: FlowVAE, tokenizer: PreTrainedTokenizerBase) -> None:
        self.generator, self.codec, self.tokenizer = generator, codec, tokenizer

    def check(self, text: str) -> None:
        """Refuse what has no words, or holds marks of the vocabulary."""
        check_words(text)
        if found := MARKER.search(text):
            raise ValueError(f"the text holds {found[0]!r}, which KALL-E takes for one of its marks; leave it out")

    def first_decides(self, voice: SpokenVoice | None) -> bool:
        """Without a recording the first piece finds the voice that speaks the others."""
        return voice is None or not len(voice.tokens)

    def whole_voice(self, voice: Voice | VoiceAttributes | None, instruction: str | None) -> KallEVoice:
        if instruction is not None:
            raise ValueError("KALL-E takes no instruction; leave it out")
        if voice is None:
            return KallEVoice(torch.zeros(0, self.generator.config.token_dim, device=self.generator.device), None)
        if not isinstance(voice, Voice):
            raise ValueError("KALL-E speaks with recorded voices: voice=Voice(recording, text=its words)")
        return self.read_voice(voice)

    def read_voice(self, voice: Voice) -> KallEVoice:
        """A recording as distributions of its frames, but the last, which may be no whole one.

        Raises:
            ValueError: its words are not given, or it cannot be read or is too short.
        """
        if voice.text is None:
            raise ValueError("KALL-E needs the words of the voice's recording: Voice(audio, text=...)")
        self.check(voice.text)
        audio, hop = voice_samples(voice, self.codec.sample_rate), self.codec.hop_length
        if len(audio) < LEAST_VOICE_FRAMES * hop:
            lasts, least = (count / self.codec.sample_rate for count in (len(audio), LEAST_VOICE_FRAMES * hop))
            raise ValueError(f"the voice lasts {lasts:.2f} s; give {least:.2f} s at least, better a few seconds")
        moments = self.codec.moments(audio[None, None].to(self.codec.device))[0, :-1]
        return KallEVoice(moments.float(), voice.text)

    def ids(self, request: Request) -> list[int]:
        """What the generator reads: the words of the recording and those to say under one begin, and the marks."""
        text, voice = request.piece.text, request.voice
        first = text if voice.text is None else voice.text
        ids = self.tokenizer(first)["input_ids"]
        if voice.text is not None:
            ids = ids + self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids + mark_ids(self.tokenizer)

    def prompt(self, voice: KallEVoice, noise: Noise) -> Tensor | None:
        """Latents (N, D) of a voice, drawn where it is a recording."""
        if not len(voice.tokens):
            return None
        if voice.tokens.shape[1] == self.generator.config.token_dim:
            return voice.tokens
        return draw(voice.tokens[None], noise)[0]

    def limits(self, requests: list[Request]) -> list[int]:
        """Frames of each piece at most."""
        return [FRAMES_PER_ID * self._size(request) + SPARE_FRAMES for request in requests]

    def _size(self, request: Request) -> int:
        return len(self.tokenizer(request.piece.text, add_special_tokens=False)["input_ids"])

    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]) -> list[Tensor]:
        """Frames (N, D) of each piece, drawn of what the generator predicts."""
        generator = self.generator
        drawn = [SeededNoise.from_seeds([seed], generator.device).branch() for seed in seeds]
        prompts = [self.prompt(request.voice, noise) for request, noise in zip(requests, drawn, strict=True)]
        sequence = generator.prepare([self.ids(request) for request in requests], prompts)
        room = generator.config.max_length - sequence.text_ids.shape[1]
        if room < 1:
            raise ValueError(f"text and voice leave no room in the {generator.config.max_length} positions of the "
                             "model; give a shorter recording of the voice")
        most = min(room, sampler.max_frames or room)
        limits = [min(limit, most) for limit in self.limits(requests)]
        sequence = replace(sequence, max_patches=torch.tensor(limits, device=generator.device))
        tokens = generator.generate(sequence, noise=SeededNoise.from_seeds(seeds, generator.device), sampler=sampler)
        rows = [values[mask] for values, mask in zip(tokens.values, tokens.mask)]
        for request, row, limit, note in zip(requests, rows, limits, made, strict=True):
            self._judge(request, row, limit, note)
        return rows

    def _judge(self, request: Request, frames: Tensor, most: int, made: Made) -> None:
        made.faults += token_faults(request.piece.text, frames, rate=self.codec.frame_rate, limit=Limit(most),
                                    least=round(LEAST_FRAMES * self._size(request)), unit="frames")

    def sound_of(self, request: Request, written: Tensor, seed: int, made: Made) -> Tensor:
        """A piece comes in one part: the codec sees all of it. Without a voice the first gives that of the rest."""
        if not len(request.voice.tokens):
            made.voice = KallEVoice(written, request.piece.text)
        return self.codec.decode(Tokens(written[None]))[0, 0]
