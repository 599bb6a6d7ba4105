"""The front of Spark-TTS: words and a recorded or described voice."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.sampler import Sampler
from photophone.generators.sparktts.model import PromptIds, SparkTTS
from photophone.loading.chains import find_sources, read_config, settings_of
from photophone.loading.entry import Chain
from photophone.loading.registry import load_original
from photophone.loading.saved import is_saved_model
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_chains import beside, vocabulary_place
from photophone.pipelines.speech_faults import token_faults
from photophone.pipelines.speech_fronts import Request, SpokenVoice, Voice, voice_samples
from photophone.text.sparktts import VoiceAttributes, check_plain, clone_prompt, codes_of, creation_prompt
from photophone.text.voxcpm import check_words, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.codecs.bicodec.model import BiCodec
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ("wav2vec2",)
"""Further files that are taken."""
VOCABULARY_FOLDER = "LLM"
XLSR_FILE = "wav2vec2-large-xlsr-53/pytorch_model.bin"
CODES_PER_ID, SPARE_CODES = 30, 150
"""Spark-TTS answers with at most so many ids for each id of the text, and some more."""
CODE_TOKEN = re.compile(r"<\|bicodec_(?:semantic|global)_\d+\|>")
LEAST_CODES = 2
"""Semantic codes an id of the text: with fewer, words are missing."""


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a published Spark-TTS, see
    :func:`photophone.pipelines.phonon_front.load_parts`."""
    sources, commit = find_sources(chain, dict(files), folder, **hub)
    place = files.get("text_tokenizer") or vocabulary_place(name, folder, VOCABULARY_FOLDER, hub)
    settings = settings_of(name, read_config(place) if Path(place).is_dir() else None)
    codec = sources["bicodec"]
    whole = isinstance(codec, str | Path) and is_saved_model(codec)  # of ours, which holds wav2vec2
    more = {} if whole else {"wav2vec2": files.get("wav2vec2") or beside(name, folder, XLSR_FILE, hub)}
    generator = load_original(chain.files["llm"], sources["llm"], **{**settings, **configs.get("llm", {})})
    codec = load_original(chain.files["bicodec"], codec, **{**more, **configs.get("bicodec", {})})
    return {"speech_generator": generator, "codec": codec, "text_tokenizer": load_tokenizer(place, **hub)}, commit


def front(pipeline: TextToSpeechPipeline) -> SparkSpeech:
    """What stands between texts and the generator."""
    return SparkSpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer)


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

    def first_decides(self, voice: SparkVoice | None) -> bool:
        """A described voice is found by the first piece, and stays."""
        return voice is None or voice.attributes is not None

    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]
              ) -> list[tuple[list[int], list[int]]]:
        """Codes of the voice, if it was described, and of the speech of each piece."""
        texts = [request.piece.text for request in requests]
        prompts = [self._ids(self.prompt(text, request.voice)) for text, request in zip(texts, requests)]
        sizes = [len(self._ids(text)) for text in texts]
        most = [min(sampler.max_tokens, CODES_PER_ID * size + SPARE_CODES) for size in sizes]
        noise = SeededNoise.from_seeds(seeds, self.generator.device)
        answers = self.generator.generate(PromptIds.of_rows(prompts, most), noise=noise, sampler=sampler)
        written = []
        for index, row in enumerate(zip(answers.values, answers.mask)):
            found = row[0][row[1]].tolist()
            words = self.tokenizer.convert_ids_to_tokens(found)
            told, spoken = codes_of("".join(word for word in words if word and CODE_TOKEN.fullmatch(word)))
            ended = not found or found[-1] == self.generator.config.end
            limit = math.inf if ended else len(found)
            made[index].faults += self._faults(texts[index], told, spoken, requests[index].voice, sizes[index], limit)
            written.append((told, spoken))
        return written

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def _faults(self, text: str, told: list[int], spoken: list[int], voice: SparkVoice, size: int,
                limit: float) -> list[str]:
        """What went wrong with an answer; ``limit`` is the number of ids at which it was cut."""
        rate = self.codec.frame_rate
        if voice.attributes is not None and len(told) < self.codec.num_voice_tokens:
            spoken = []
        faults = token_faults(text, torch.tensor(spoken, dtype=torch.long), rate=rate, least=LEAST_CODES * size)
        return faults if limit == math.inf else [f"stopped at the limit of {limit} ids: {text!r:.40}", *faults]

    def sound_of(self, request: Request, written: tuple[list[int], list[int]], seed: int, made: Made) -> Tensor:
        """A piece comes in one part: the codec sees all of it."""
        (told, spoken), voice = written, request.voice
        count, device = self.codec.num_voice_tokens, self.codec.device
        codes = voice.tokens[:count].tolist() if voice.attributes is None else told[:count]
        if len(codes) < count or not spoken:
            return torch.zeros(0)
        if voice.attributes is not None:
            made.voice = SparkVoice(torch.tensor(codes, device=device), None)
        return self.codec.decode(Tokens(torch.tensor([codes + spoken], device=device)))[0, 0]
