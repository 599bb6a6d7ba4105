"""Fronts of speech language models, whose pieces of text become sound one by one: Spark-TTS, CosyVoice 2 and 3."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.cosyvoice.qwen_lm import CosyVoiceQwenLM
from photophone.generators.cosyvoice.spoken_text import SpokenText
from photophone.generators.cosyvoice.text_stream import without_long_silence
from photophone.generators.sampler import Sampler
from photophone.generators.sparktts.model import PromptIds, SparkTTS
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice, Voice, voice_samples
from photophone.pipelines.token_to_speech import TokenToSpeechPipeline
from photophone.text.cosyvoice import END_OF_PROMPT, SYSTEM, cosyvoice_ids
from photophone.text.sparktts import VoiceAttributes, check_plain, clone_prompt, codes_of, creation_prompt
from photophone.text.voxcpm import WrittenPiece, check_words, written_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.codecs.bicodec.model import BiCodec
    from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
    from photophone.codecs.speech_units.s3 import S3Tokenizer

PIECE_IDS = 80
"""Of a piece, as CosyVoice's authors split texts."""
CODES_PER_ID, SPARE_CODES = 30, 150
"""Spark-TTS answers with at most so many ids for each id of the text, and some more."""
CODE_TOKEN = re.compile(r"<\|bicodec_(?:semantic|global)_\d+\|>")
UNIT_RATE = 16000
LEAST_SECONDS = 0.2
"""Of a recorded voice."""
SILENT_TOKENS = (1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323)
"""Of CosyVoice 3, as its authors list them."""


@dataclass(frozen=True)
class SparkVoice(SpokenVoice):
    """A voice as Spark-TTS reads it.

    Attributes:
        tokens: Long (N,), voice codes, then, where the words are known, semantic codes of the recording.
        text: its words or None.
        attributes: of a voice that is described; then there are no tokens.
    """

    attributes: VoiceAttributes | None = None

    def facts(self) -> dict[str, Any]:
        return super().facts() if self.attributes is None else {"voice": asdict(self.attributes)}


@dataclass(frozen=True)
class CosyVoiceVoice(SpokenVoice):
    """A voice as CosyVoice reads it.

    Attributes:
        tokens: Long (P,), speech tokens of the recording.
        text: its words or None.
        mel: float (1, G, mels), frames of the recording.
        speaker: float (1, D).
        instruction: how to speak, or None.
    """

    mel: Tensor | None = None
    speaker: Tensor | None = None
    instruction: str | None = None

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({} if self.instruction is None else {"instruction": self.instruction})


@dataclass
class Made:
    """What was made of one piece.

    Attributes:
        faults: what went wrong, in words.
        voice: to speak the next pieces of the text with, where the text had none.
    """

    faults: list[str] = field(default_factory=list)
    voice: SpokenVoice | None = None


class PieceFront(SpeechFront):
    """A front that also makes the sound of its pieces.

    Attributes:
        tokenizer: of the text.
    """

    takes_voices = True
    tokenizer: PreTrainedTokenizerBase

    @abstractmethod
    def speak(self, request: Request, seed: int, sampler: Sampler, made: Made, stream: bool = False
              ) -> Iterator[Tensor]:
        """Speech (T,) of a piece, in one part or several; together they are the same for a stream.

        Args:
            request: the piece and its voice.
            seed: of all draws.
            sampler: of the generator.
            made: takes down what happened.
            stream: parts come as soon as they can.
        """

    @abstractmethod
    def whole_voice(self, voice: Voice | VoiceAttributes | None, instruction: str | None) -> SpokenVoice:
        """All that a piece needs beside its text.

        Raises:
            ValueError: there is no voice, it cannot be read, or the model takes no instruction.
        """

    def check(self, text: str) -> None:
        """Refuse what has no words."""
        check_words(text)

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return list(written_pieces(self.tokenizer, text, PIECE_IDS))

    def condition(self, requests: list[Request]) -> NoReturn:
        """Pieces are spoken by :meth:`speak`."""
        raise ValueError("pieces of this model are spoken one by one")


class SparkSpeech(PieceFront):
    """Words and a recorded or described voice, for Spark-TTS.

    Args:
        generator: reads prompts.
        codec: of its codes.
        tokenizer: of its published folder.
    """

    def __init__(self, generator: SparkTTS, codec: BiCodec, tokenizer: PreTrainedTokenizerBase) -> None:
        self.generator, self.codec, self.tokenizer = generator, codec, tokenizer

    def check(self, text: str) -> None:
        """Refuse what has no words, or holds tokens of the model."""
        check_words(text)
        check_plain(text)

    def whole_voice(self, voice: Voice | VoiceAttributes | None, instruction: str | None) -> SparkVoice:
        if voice is None:
            raise ValueError("Spark-TTS needs a voice: voice=Voice(recording, text=its words or None), or "
                             "voice=VoiceAttributes(gender, pitch, speed)")
        if instruction is not None:
            raise ValueError("Spark-TTS takes no instruction; describe the voice by VoiceAttributes(gender, pitch, "
                             "speed)")
        return self.read_voice(voice)

    def read_voice(self, voice: Voice | VoiceAttributes) -> SparkVoice:
        """A recording as codes; a described voice as it is.

        Raises:
            ValueError: the recording cannot be read, or a word of a description is unknown.
        """
        if isinstance(voice, VoiceAttributes):
            voice.tokens()
            return SparkVoice(torch.zeros(0, dtype=torch.long), None, voice)
        if voice.text is not None:
            self.check(voice.text)
        audio = voice_samples(voice, self.codec.sample_rate).to(self.codec.device)
        codes = self.codec.encode(audio[None, None]).values[0]
        return SparkVoice(codes if voice.text is not None else codes[:self.codec.num_voice_tokens], voice.text)

    def prompt(self, text: str, voice: SparkVoice) -> str:
        """What the model reads."""
        if voice.attributes is not None:
            return creation_prompt(text, voice.attributes)
        told, spoken = voice.tokens.split([self.codec.num_voice_tokens,
                                           len(voice.tokens) - self.codec.num_voice_tokens])
        return clone_prompt(text, told.tolist(), voice.text, spoken.tolist())

    def speak(self, request: Request, seed: int, sampler: Sampler, made: Made, stream: bool = False
              ) -> Iterator[Tensor]:
        """A piece comes in one part: the codec sees all of it."""
        voice, text = request.voice, request.piece.text
        ids = self.tokenizer(self.prompt(text, voice))["input_ids"]
        most = min(sampler.max_tokens, CODES_PER_ID * len(self.tokenizer(text)["input_ids"]) + SPARE_CODES)
        answer = self.generator.generate(PromptIds.of_rows([ids], [most]),
                                         noise=SeededNoise.from_seeds([seed], self.generator.device), sampler=sampler)
        found = answer.values[0].tolist()
        if len(found) == most and found[-1] != self.generator.config.end:
            made.faults.append(f"stopped at the limit of {most} ids: {text!r:.40}")
        words = self.tokenizer.convert_ids_to_tokens(found)
        told, spoken = codes_of("".join(word for word in words if word and CODE_TOKEN.fullmatch(word)))
        count, device = self.codec.num_voice_tokens, self.codec.device
        codes = voice.tokens[:count].tolist() if voice.attributes is None else told[:count]
        if len(codes) < count or not spoken:
            made.faults.append(f"made no speech: {text!r:.40}")
            return
        if voice.attributes is not None:
            made.voice = SparkVoice(torch.tensor(codes, device=device), None)
        yield self.codec.decode(Tokens(torch.tensor([codes + spoken], device=device)))[0, 0]


class CosyVoiceSpeech(PieceFront):
    """Words, a recorded voice and perhaps an instruction, for CosyVoice 2 and 3.

    Args:
        generator: text to speech tokens.
        sound: speech tokens to speech.
        tokenizer: of its published folder, with the added tokens.
        units, speaker: read recordings.
        silent: speech tokens of silence, of which more than five in a row are left out: of CosyVoice 3.
    """

    def __init__(self, generator: CosyVoiceQwenLM, sound: TokenToSpeechPipeline, tokenizer: PreTrainedTokenizerBase,
                 units: S3Tokenizer, speaker: CAMPlusSpeaker | None,
                 silent: tuple[int, ...] = ()) -> None:
        self.generator, self.sound, self.tokenizer = generator, sound, tokenizer
        self.units, self.speaker, self.silent = units, speaker, silent

    def whole_voice(self, voice: Voice | VoiceAttributes | None, instruction: str | None) -> CosyVoiceVoice:
        if not isinstance(voice, Voice):
            raise ValueError("CosyVoice speaks with recorded voices: voice=Voice(recording, text=its words or None)")
        if instruction is not None:
            check_words(instruction)
        return replace(self.read_voice(voice), instruction=instruction)

    def read_voice(self, voice: Voice) -> CosyVoiceVoice:
        """A recording as speech tokens, frames and the vector of its speaker.

        Raises:
            ValueError: the recording cannot be read or is too short, or there is no network for vectors of speakers.
        """
        if self.speaker is None:
            raise ValueError("this pipeline has no network for vectors of speakers; give speaker_encoder="
                             "CAMPlusSpeaker('campplus.onnx')")
        if voice.text is not None:
            check_words(voice.text)
        low = voice_samples(voice, UNIT_RATE)
        if len(low) < LEAST_SECONDS * UNIT_RATE:
            raise ValueError(f"the voice lasts {len(low) / UNIT_RATE:.2f} s; give {LEAST_SECONDS} s at least, better a "
                             "few seconds")
        full = voice_samples(voice, self.sound.sample_rate)
        flow, vocoder = self.sound.flow, self.sound.vocoder
        tokens = self.units.encode(low[None, None]).values[0]
        frames = vocoder.encode(full[None, None]).values
        count = len(tokens)
        while count and flow.frames(count) > frames.shape[1]:
            count -= 1
        return CosyVoiceVoice(tokens[:count], voice.text, frames[:, :flow.frames(count)],
                              self.speaker(low)[None].to(flow.device))

    def front_text(self, voice: CosyVoiceVoice) -> str:
        """What stands in front of the text: an instruction or the words of the recording."""
        third = not self.generator.config.own_specials
        system = SYSTEM if third else ""
        if voice.instruction is not None:
            return f"{system} {voice.instruction}".strip() + END_OF_PROMPT
        return (system + END_OF_PROMPT if third else "") + (voice.text or "")

    def request_of(self, request: Request) -> SpokenText:
        """What the language model reads; with an instruction nothing of the recording's speech."""
        voice = request.voice
        spoken = voice.tokens.cpu() if voice.text is not None and voice.instruction is None else None
        return SpokenText.of_rows([cosyvoice_ids(self.tokenizer, request.piece.text)],
                                  [cosyvoice_ids(self.tokenizer, self.front_text(voice))], [spoken])

    def speak(self, request: Request, seed: int, sampler: Sampler, made: Made, stream: bool = False
              ) -> Iterator[Tensor]:
        """A stream speaks while the language model still writes."""
        voice, text = request.voice, request.piece.text
        condition, counted = self.request_of(request), []
        most = int(self.generator.limits(condition, sampler)[1])

        def written() -> Iterator[Tensor]:
            noise = SeededNoise.from_seeds([seed], self.generator.device)
            for part in self.generator.stream(condition, noise=noise, sampler=sampler):
                counted.append(part.values[0])
                yield part.values[0]
            if len(counted) == most:
                made.faults.append(f"stopped at the limit of {most} tokens: {text!r:.40}")

        tokens: Any = without_long_silence(written(), self.silent)
        first = next(tokens, None)
        if first is None:
            made.faults.append(f"made no speech: {text!r:.40}")
            return
        inputs = voice.speaker, voice.tokens[None], voice.mel
        generator = torch.Generator().manual_seed(seed)
        if stream:
            def pieces() -> Iterator[Tensor]:
                yield first[None]
                for token in tokens:
                    yield token[None]

            for chunk in self.sound.stream(pieces(), *inputs, generator=generator, left_chunks=None):
                yield torch.from_numpy(chunk.audio)
            return
        whole = torch.cat([first, *tokens])[None]
        yield torch.from_numpy(self.sound(whole, *inputs, generator=generator, chunked=True).audio[0])
