"""The front of CosyVoice 1, 2 and 3: words, a recorded or named voice and perhaps an instruction become speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.codecs.speech_units.campplus import FILE as VOICE_NETWORK
from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
from photophone.codecs.speech_units.speakers import FILE as SPEAKERS
from photophone.codecs.speech_units.speakers import NamedSpeakers
from photophone.core.noise import SeededNoise
from photophone.generators.cosyvoice import LEFT_CHUNKS
from photophone.generators.cosyvoice.speech_lm import SpeechLM
from photophone.generators.cosyvoice.spoken_text import SpokenText
from photophone.generators.cosyvoice.text_stream import without_long_silence
from photophone.generators.sampler import Sampler
from photophone.loading.chains import find_sources
from photophone.loading.entry import Chain
from photophone.loading.registry import find, load_original
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_chains import beside, vocabulary_place
from photophone.pipelines.speech_faults import Limit, token_faults
from photophone.pipelines.speech_fronts import Request, SpokenVoice, Voice, voice_samples
from photophone.pipelines.token_to_speech import TokenToSpeechPipeline
from photophone.text.cosyvoice import END_OF_PROMPT, SYSTEM, cosyvoice_ids, load_cosyvoice_tokenizer
from photophone.text.cosyvoice_forms import as_said, cosyvoice_pieces, is_rewritten
from photophone.text.sparktts import VoiceAttributes
from photophone.text.voxcpm import WrittenPiece, check_words
from photophone.text.whisper_text import SUFFIX, load_whisper_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.codecs.speech_units.s3 import S3Tokenizer
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ("campplus", "spk2info")
"""Further files that are taken."""
VOCABULARY_FOLDER = "CosyVoice-BlankEN"
"""Of 2 and 3."""
WITHOUT_INSTRUCTIONS = ("cosyvoice-300m", "cosyvoice-300m-25hz", "cosyvoice-300m-sft")
"""Releases that were not trained with instructions."""
UNIT_RATE = 16000
LEAST_SECONDS = 0.2
"""Of a recorded voice."""
SILENT_TOKENS = (1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323)
"""Of CosyVoice 3, as its authors list them."""


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a published CosyVoice, see
    :func:`photophone.pipelines.phonon_front.load_parts`."""
    sources, commit = find_sources(chain, dict(files), folder, **hub)
    vocabulary = vocabulary_of(name, folder, files, configs.get("llm", {}), hub)
    named = files.get("spk2info") or beside(name, folder, SPEAKERS, hub, optional=True)
    speakers = None if named is None else NamedSpeakers.from_original(named)
    encoder = CAMPlusSpeaker(files.get("campplus") or beside(name, folder, VOICE_NETWORK, hub))
    parts = {key: load_original(entry, sources[key], **configs.get(key, {})) for key, entry in chain.files.items()}
    return {"speech_generator": parts["llm"], "codec": parts["hift"], "text_tokenizer": vocabulary,
            "flow": parts["flow"], "unit_tokenizer": parts["units"], "speaker_encoder": encoder,
            "speakers": speakers}, commit


def vocabulary_of(name: str, folder: str | Path | None, given: Mapping[str, Any], config: Mapping[str, Any],
                  hub: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The vocabulary of a CosyVoice; ``config`` replaces settings of its language model, see :func:`load_parts`."""
    settings = {**find(name).config, **config}
    if "vocab_size" in find(name).config:  # of CosyVoice 1; that of 2 and 3 is Qwen2's
        return whisper_vocabulary(name, folder, given, settings["vocab_size"], hub)
    place = given.get("text_tokenizer") or vocabulary_place(name, folder, VOCABULARY_FOLDER, hub)
    return load_cosyvoice_tokenizer(place, third=not settings.get("own_specials", True), **hub)


def whisper_vocabulary(name: str, folder: str | Path | None, given: Mapping[str, Any], vocab_size: int,
                       hub: Mapping[str, Any], option: str = "text_tokenizer") -> PreTrainedTokenizerBase:
    """The vocabulary of CosyVoice 1: the user's under the name ``option``, that in the folder, or Whisper's from the
    hub.

    Raises:
        ValueError: there is none, or one of another model; names the way out.
    """
    source = given.get(option)
    if source is None and folder is not None and any(Path(folder).glob(f"*{SUFFIX}")):
        source = folder
    if source is not None:
        return load_whisper_tokenizer(source, vocab_size, **hub)
    source = find(name).chain.text_tokenizer
    if source is None:
        raise ValueError(f"the vocabulary of {name} is in no published folder; give text_tokenizer= the file "
                         "multilingual_zh_ja_yue_char_del.tiktoken of its authors' repository, in "
                         "cosyvoice/tokenizer/assets")
    elsewhere = {**hub, "revision": None}
    try:
        return load_whisper_tokenizer(source, vocab_size, **elsewhere)
    except ValueError as error:
        raise ValueError(f"{name} reads text with Whisper's vocabulary; give {option}= multilingual.tiktoken of "
                         f"openai-whisper, or a folder of whisper-large-v3 ({error})") from error


def front(pipeline: TextToSpeechPipeline) -> CosyVoiceSpeech:
    """What stands between texts and the generator."""
    model = pipeline.source["model"]
    flow = {"model": f"{model}-flow", "revision": None} if pipeline.entry else None
    sound = TokenToSpeechPipeline(pipeline.flow, pipeline.codec, flow)
    return CosyVoiceSpeech(pipeline.speech_generator, sound, pipeline.text_tokenizer, pipeline.unit_tokenizer,
                           pipeline.speaker_encoder, pipeline.speakers, left_chunks=pipeline.left_chunks,
                           instructs=model not in WITHOUT_INSTRUCTIONS)


@dataclass(frozen=True)
class CosyVoiceVoice(SpokenVoice):
    """A voice as CosyVoice reads it.

    Attributes:
        tokens: Long (P,), speech tokens of the recording; none for a speaker of whom only the vector is known.
        text: the words of the recording or None.
        mel: float (1, G, mels), frames of the recording.
        speaker: float (1, D).
        instruction: how to speak, or None.
        ids: of the words, where a named speaker comes with these.
        name: of a named speaker.
    """

    mel: Tensor | None = None
    speaker: Tensor | None = None
    instruction: str | None = None
    ids: tuple[int, ...] | None = None
    name: str | None = None

    @property
    def continues(self) -> bool:
        """Whether the language model goes on with the speech of the recording."""
        return self.instruction is None and (self.text is not None or self.ids is not None)

    def facts(self) -> dict[str, Any]:
        """What is written beside speech with this voice."""
        told = super().facts() if self.name is None else {"voice": self.name}
        return told | ({} if self.instruction is None else {"instruction": self.instruction})


class CosyVoiceSpeech(PieceFront):
    """Words, a recorded or named voice and perhaps an instruction, for CosyVoice.

    Args:
        generator: text to speech tokens.
        sound: speech tokens to speech.
        tokenizer: of its published folder, with the added tokens.
        units, speaker: read recordings.
        speakers: named ones.
        instructs: the model follows instructions.
        left_chunks: pieces before its own that speech sees beside the recording, in a call and in a stream; None: all,
            as in the authors' stream, at a cost that grows with the speech of a piece.
        normalize: see :func:`photophone.text.cosyvoice_forms.is_rewritten`.
    """

    takes_names = True

    def __init__(self, generator: SpeechLM, sound: TokenToSpeechPipeline, tokenizer: PreTrainedTokenizerBase,
                 units: S3Tokenizer, speaker: CAMPlusSpeaker | None, speakers: NamedSpeakers | None = None, *,
                 instructs: bool = True, left_chunks: int | None = LEFT_CHUNKS, normalize: bool | None = None) -> None:
        self.generator, self.sound, self.tokenizer = generator, sound, tokenizer
        self.units, self.speaker, self.speakers = units, speaker, speakers or {}
        self.instructs, self.left_chunks, self.normalize = instructs, left_chunks, normalize
        self.third = not generator.config.get("own_specials", True)
        self.silent = SILENT_TOKENS if self.third else ()

    # what is asked ------------------------------------------------------------------------------------------------

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the speakers of the release."""
        return tuple(self.speakers)

    def normalizing(self, normalize: bool | None) -> CosyVoiceSpeech:
        """The same with another setting; see :func:`photophone.text.cosyvoice_forms.is_rewritten`."""
        self.normalize = normalize
        return self

    def check(self, text: str) -> None:
        """Refuse what has no words, and texts to be rewritten where the libraries for it are missing."""
        check_words(text)
        if self.normalize:
            is_rewritten(text, True)

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Written forms become words, then sentences are put together until they are long enough, as the authors do
        it."""
        return cosyvoice_pieces(self.tokenizer, text, self.normalize)

    def settings(self, texts: list[str]) -> dict[str, Any]:
        """Whether written forms become words; texts that hold tokens are left alone in any case."""
        return {"normalized": any(is_rewritten(text, self.normalize) for text in texts)}

    # voices ---------------------------------------------------------------------------------------------------------

    def whole_voice(self, voice: Voice | VoiceAttributes | str | None, instruction: str | None) -> CosyVoiceVoice:
        """A recorded or named voice with an instruction.

        Raises:
            ValueError: there is no such voice, it cannot be read, or the model follows no instructions.
        """
        if instruction is not None:
            check_words(instruction)
            if not self.instructs:
                raise ValueError("this CosyVoice follows no instructions; take cosyvoice-300m-instruct, or "
                                 "CosyVoice 2 or 3")
        if isinstance(voice, str):
            read = self.named_voice(voice)
        elif isinstance(voice, Voice):
            read = self.read_voice(voice)
        else:
            named = f", or with one of {', '.join(self.voices)}: voice=its name" if self.voices else ""
            raise ValueError("CosyVoice speaks with recorded voices: voice=Voice(recording, text=its words or None)"
                             f"{named}")
        return replace(read, instruction=instruction)

    def named_voice(self, name: str) -> CosyVoiceVoice:
        """A speaker of the release.

        Raises:
            ValueError: there is none of this name; lists those that there are.
        """
        if name not in self.speakers:
            known = f"; there are {', '.join(map(repr, self.voices))}" if self.voices else \
                "; its release (spk2info.pt) has none"
            raise ValueError(f"no voice is named {name!r:.60}{known}. A recording is given as Voice(path)")
        speaker, flow = self.speakers[name], self.sound.flow
        mels, width = flow.config.mel_dim, flow.config.speaker_dim
        if len(speaker.vector) != width or (speaker.mel is not None and speaker.mel.shape[1] != mels):
            raise ValueError(f"the speaker {name!r} is of another model: its vector has {len(speaker.vector)} numbers, "
                             f"this model reads {width}, and frames of {mels} mel bands")
        tokens = torch.zeros(0, dtype=torch.long) if speaker.tokens is None else speaker.tokens
        mel = torch.zeros(0, mels) if speaker.mel is None else speaker.mel
        ids = None if speaker.text is None or speaker.tokens is None else tuple(speaker.text.tolist())
        return CosyVoiceVoice(tokens.to(flow.device), None, mel[None].to(flow.device),
                              speaker.vector[None].to(flow.device), ids=ids or None, name=name)

    def read_voice(self, voice: Voice) -> CosyVoiceVoice:
        """A recording as speech tokens, frames and the vector of its speaker.

        Raises:
            ValueError: the recording cannot be read or is too short, or there is no network for vectors of speakers.
        """
        if self.speaker is None:
            raise ValueError("this pipeline has no network for vectors of speakers; give speaker_encoder="
                             "CAMPlusSpeaker('campplus.onnx')")
        text = voice.text
        if text is not None:
            self.check(text)
            text = as_said(text, self.normalize)
        low = voice_samples(voice, UNIT_RATE)
        if len(low) < LEAST_SECONDS * UNIT_RATE:
            raise ValueError(f"the voice lasts {len(low) / UNIT_RATE:.2f} s; give {LEAST_SECONDS} s at least, better a "
                             "few seconds")
        full = voice_samples(voice, self.sound.sample_rate)
        flow = self.sound.flow
        tokens = self.units.encode(low[None, None]).values[0]
        frames = self.sound.vocoder.encode(full[None, None]).values
        if flow.token_encoder.RATE == "frame_ratio":  # CosyVoice 1 stretches tokens to any number of frames
            count = min(len(tokens), frames.shape[1] // flow.config.frame_ratio)
            tokens, frames = tokens[:count], frames[:, :flow.frames(count)]
        return CosyVoiceVoice(tokens, text, frames, self.speaker(low)[None].to(flow.device))

    # the language model ---------------------------------------------------------------------------------------------

    def front_ids(self, voice: CosyVoiceVoice) -> list[int]:
        """What stands in front of the text: an instruction or the words of the recording.

        CosyVoice 3 always needs the end of an instruction there.
        """
        system, third = SYSTEM if self.third else "", self.third
        if voice.instruction is not None:
            words = voice.instruction.strip().removesuffix(END_OF_PROMPT)
            return cosyvoice_ids(self.tokenizer, f"{system} {words}".strip() + END_OF_PROMPT)
        opening = cosyvoice_ids(self.tokenizer, system + END_OF_PROMPT) if third else []
        if voice.ids is not None:
            return list(voice.ids) if not opening or opening[-1] in voice.ids else [*opening, *voice.ids]
        return opening + cosyvoice_ids(self.tokenizer, voice.text or "")

    def request_of(self, *requests: Request) -> SpokenText:
        """What the language model reads, a row for each request.

        With an instruction it reads nothing of the recording's speech, and CosyVoice 1 nothing of the speaker.
        """
        voices, speaker = [request.voice for request in requests], None
        if self.generator.config.get("speaker_dim"):
            speaker = torch.cat([voice.speaker if voice.instruction is None else torch.zeros_like(voice.speaker)
                                 for voice in voices]).cpu()
        return SpokenText.of_rows([cosyvoice_ids(self.tokenizer, request.piece.text) for request in requests],
                                  [self.front_ids(voice) for voice in voices],
                                  [voice.tokens.cpu() if voice.continues else None for voice in voices], speaker)

    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]) -> list[Tensor]:
        """Speech tokens Long (N,) of each piece."""
        condition = self.request_of(*requests)
        noise = SeededNoise.from_seeds(seeds, self.generator.device)
        tokens = self.generator.generate(condition, noise=noise, sampler=sampler)
        rows = [values[mask] for values, mask in zip(tokens.values, tokens.mask)]
        self._judge(requests, condition, rows, sampler, made)
        return [self._without_silence(row) for row in rows]

    def _without_silence(self, row: Tensor) -> Tensor:
        return torch.cat([row[:0], *without_long_silence(row.split(1), self.silent)])

    def _judge(self, requests: list[Request], condition: SpokenText, rows: list[Tensor], sampler: Sampler,
               made: list[Made]) -> None:
        least, most = (limit.tolist() for limit in self.generator.limits(condition, sampler))
        for index, (request, tokens) in enumerate(zip(requests, rows)):
            made[index].faults += token_faults(request.piece.text, tokens, rate=self.sound.flow.config.token_rate,
                                               limit=Limit(most[index]), least=least[index])

    # the sound ------------------------------------------------------------------------------------------------------

    def _inputs(self, voice: CosyVoiceVoice, seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
        """Inputs and options of the sound of a piece. The authors' versions 2 and 3 start from noise of their own."""
        generator = None if self.sound.flow.config.fixed_noise else torch.Generator().manual_seed(seed)
        left = {"left_chunks": self.left_chunks} if self.sound.flow.has_chunks else {}
        return (voice.speaker, voice.tokens[None], voice.mel), {"generator": generator, **left}

    def sound_of(self, request: Request, written: Tensor, seed: int, made: Made) -> Tensor:
        """Speech (T,) of speech tokens."""
        if not len(written):
            return torch.zeros(0)
        inputs, options = self._inputs(request.voice, seed)
        chunked = self.sound.flow.has_chunks
        return torch.from_numpy(self.sound(written[None], *inputs, chunked=chunked, **options).audio[0])

    def stream(self, request: Request, seed: int, sampler: Sampler, made: Made) -> Iterator[Tensor]:
        """Speech while the language model still writes."""
        condition, written = self.request_of(request), []

        def tokens() -> Iterator[Tensor]:
            noise = SeededNoise.from_seeds([seed], self.generator.device)
            for part in self.generator.stream(condition, noise=noise, sampler=sampler):
                written.append(part.values[0])
                yield part.values[0]

        inputs, options = self._inputs(request.voice, seed)
        pieces = (token[None] for token in without_long_silence(tokens(), self.silent))
        for chunk in self.sound.stream(pieces, *inputs, **options):
            yield torch.from_numpy(chunk.audio)
        row = torch.cat(written) if written else condition.text[0, :0]
        self._judge([request], condition, [row], sampler, [made])
