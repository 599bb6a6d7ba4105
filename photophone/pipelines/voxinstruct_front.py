"""VoxInstruct in a pipeline: speech from words and from instructions, in the authors' three steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.codecs.speech_units.base import SpeechUnits
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.sampler import Sampler
from photophone.generators.voxinstruct.books import VoxInstructNAR
from photophone.generators.voxinstruct.condition import Instruction, WrittenSpeech
from photophone.generators.voxinstruct.model import VoxInstructAR
from photophone.loading.entry import Chain
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import find, load_original
from photophone.loading.saved import is_saved_model
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_faults import token_faults
from photophone.pipelines.speech_fronts import Request, SpokenVoice, Voice, voice_samples
from photophone.text.sparktts import VoiceAttributes
from photophone.text.voxcpm import WrittenPiece, check_words, load_tokenizer
from photophone.text.voxinstruct import full_instruction, language_of, quoted_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ("encodec", "hubert", "kmeans")
PLACES = {"ar": ("voxinstruct-sft-checkpoint/ar_1800k.pyt", "ar_1800k.pyt"),
          "nar": ("voxinstruct-sft-checkpoint/nar_1800k.pyt", "nar_1800k.pyt"),
          "text_tokenizer": ("google-mt5-base-checkpoint",), "vocos": ("vocos-encodec-24khz",),
          "encodec": ("encodec-checkpoint", "encodec_24khz"),
          "hubert": ("hubert-base-checkpoint/hubert_base_ls960.pt", "hubert-base-checkpoint"),
          "kmeans": ("hubert-base-checkpoint/hubert_base_ls960_L9_km500.npy",)}
"""Where the authors have the parts below ``pretrained``, and the centres as numbers."""
PARTS = {"encodec": "encodec-24khz-6kbps", "hubert": "hubert-base-km500"}
HUBS = {"text_tokenizer": "google/mt5-base", "encodec": "facebook/encodec_24khz"}
IDS_PER_ID, SPARE_IDS, LEAST_CODES = 60, 400, 3
"""Ids of speech at most for each id of the words, and some more; with fewer codes than the last, words are missing."""
LEAST_SECONDS = 0.5
KEPT_SHARE, KEPT_LESS = 0.8, 20
"""Units of a recording that are kept: without its end, or the model would stop there."""


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for VoxInstruct, see
    :func:`photophone.pipelines.phonon_front.load_parts`.

    ``files`` may hold ``encodec``, ``hubert`` and ``kmeans`` as well; without the last two no voices are read. The
    folder is the authors' repository or its ``pretrained``; what it lacks comes from the hub, but for the two models.
    """
    given = {key: files.get(key) or _place(folder, key) for key in PLACES}
    for key in chain.generator:
        if given[key] is None:
            raise ValueError(f"{name} needs {Path(PLACES[key][0]).name}, which is on no hub; give {key}=PATH or a "
                             f"folder that holds {PLACES[key][0]}")
    if (given["hubert"] is None) != (given["kmeans"] is None):
        missing = "kmeans" if given["kmeans"] is None else "hubert"
        if files.get("hubert") or files.get("kmeans"):
            raise ValueError(f"voices are read with hubert and kmeans; {missing} is missing")
        given["hubert"] = None
    vocabulary = load_tokenizer(given["text_tokenizer"] or HUBS["text_tokenizer"], **hub)

    key, codec = chain.tokenizer
    saved = isinstance(given[key], str | Path) and is_saved_model(given[key])  # of ours, which holds EnCodec

    def found(part: str) -> tuple[Any, str | None]:
        source, entry = given[part], chain.files.get(part) or PARTS[part]
        return (source, None) if isinstance(source, Mapping) else find_checkpoint(find(entry), source, **hub)

    wanted = [*chain.files, *(["encodec"] * (not saved)), *(["hubert"] if given["hubert"] else [])]
    sources = {part: found(part) for part in wanted}

    def load(part: str, entry: str, **options: Any) -> Any:
        return load_original(entry, sources[part][0], **{**options, **configs.get(part, {})})

    parts = {"speech_generator": load("ar", name), "book_generator": load("nar", chain.generator["nar"]),
             "codec": load(key, codec, **({} if saved else {"encodec": sources["encodec"][0]})),
             "text_tokenizer": vocabulary}
    if given["hubert"] is not None:
        parts["unit_tokenizer"] = load("hubert", PARTS["hubert"], kmeans=given["kmeans"])
    commits = [commit for _, commit in sources.values() if commit]
    return parts, ", ".join(dict.fromkeys(commits)) or None


def _place(folder: str | Path | None, key: str) -> Path | None:
    """The first place of a part that there is."""
    roots = [] if folder is None else [Path(folder), Path(folder) / "pretrained"]
    return next((root / place for root in roots for place in PLACES[key] if (root / place).exists()), None)


def without_end(units: Tensor) -> Tensor:
    """The units (S,) of speech that are continued."""
    return units[:max(0, min(int(KEPT_SHARE * len(units)), len(units) - KEPT_LESS))]


def front(pipeline: TextToSpeechPipeline) -> VoxInstructSpeech:
    """What stands between texts and the generators.

    Raises:
        ValueError: the second generator is missing.
    """
    if pipeline.book_generator is None:
        raise ValueError("VoxInstruct needs book_generator, its second model")
    return VoxInstructSpeech(pipeline.speech_generator, pipeline.book_generator, pipeline.codec,
                             pipeline.text_tokenizer, pipeline.unit_tokenizer)


@dataclass(frozen=True)
class VoxInstructVoice(SpokenVoice):
    """A voice as VoxInstruct reads it.

    Attributes:
        tokens: Long (S,), units; empty where the model finds a voice.
        text: None, the words of a recording are not read.
        codes: Long (Q, A) of the same speech.
        instruction: how to speak, or None.
    """

    codes: Tensor | None = None
    instruction: str | None = None

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({} if self.instruction is None else {"instruction": self.instruction})


class VoxInstructSpeech(PieceFront):
    """Words, an instruction, or both, and perhaps a recorded voice, for VoxInstruct.

    Args:
        generator: instructions to units and codes of the first book.
        books: those to all books.
        codec: of the codes.
        tokenizer: of mT5.
        units: reads recordings, or None.
    """

    def __init__(self, generator: VoxInstructAR, books: VoxInstructNAR, codec: AudioCodec,
                 tokenizer: PreTrainedTokenizerBase, units: SpeechUnits | None) -> None:
        self.generator, self.books, self.codec = generator, books, codec
        self.tokenizer, self.units = tokenizer, units

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text; one with quotation marks stays whole: it may be an instruction."""
        return super().pieces(text) if quoted_words(text) is None else [WrittenPiece(text, "paragraph")]

    def spoken_words(self, text: str) -> str:
        """Those between quotation marks, where there are any."""
        return quoted_words(text) or text

    def whole_voice(self, voice: Voice | VoiceAttributes | None, instruction: str | None) -> VoxInstructVoice:
        if instruction is not None:
            check_words(instruction)
            self._ids(full_instruction("a", instruction)[0])
        if voice is None:
            return VoxInstructVoice(torch.zeros(0, dtype=torch.long), None, instruction=instruction)
        if not isinstance(voice, Voice):
            raise ValueError("VoxInstruct speaks with recorded voices, or with those that an instruction describes: "
                             "instruction='a low female voice'")
        return replace(self.read_voice(voice), instruction=instruction)

    def read_voice(self, voice: Voice) -> VoxInstructVoice:
        """A recording as units without repeats and codes; its words are not needed.

        Raises:
            ValueError: it cannot be read or is too short, or the pipeline has nothing to read it with.
        """
        if self.units is None:
            raise ValueError("this pipeline reads no voices; give hubert= and kmeans= to from_original")
        audio = voice_samples(voice, self.codec.sample_rate)
        if len(audio) < LEAST_SECONDS * self.codec.sample_rate:
            raise ValueError(f"the voice lasts {len(audio) / self.codec.sample_rate:.2f} s; give {LEAST_SECONDS} s at "
                             "least, better a few seconds")
        codes = self.codec.encode(audio[None, None].to(self.codec.device)).values[0]
        low = voice_samples(voice, self.units.sample_rate)[None, None].to(self.units.device)
        units = torch.unique_consecutive(self.units.encode(low).values[0])
        return VoxInstructVoice(without_end(units).to(self.generator.device), None, codes.to(self.generator.device))

    def _ids(self, text: str) -> list[int]:
        """Ids of an instruction, with their end.

        Raises:
            ValueError: there are too many.
        """
        ids, most = self.tokenizer(text)["input_ids"], self.generator.config.max_text
        if len(ids) > most:
            raise ValueError(f"the instruction {text!r:.40} has {len(ids)} tokens with the words to say, at most "
                             f"{most} are read; shorten it")
        return ids

    def condition_of(self, request: Request) -> tuple[Instruction, str]:
        """What the generators read, and the words to say."""
        voice = request.voice
        text, words = full_instruction(request.piece.text, voice.instruction)
        ids = torch.tensor([self._ids(text)])
        prompt = {} if voice.codes is None else {"units": voice.tokens[None], "codes": voice.codes[None]}
        return Instruction(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([language_of(words)]),
                           **prompt).to(self.generator.device), words

    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]
              ) -> list[tuple[Tensor, Tensor]]:
        """Units Long (S,) and codes Long (Q, N) of each piece."""
        return [self._write(request, seed, sampler, note)
                for request, seed, note in zip(requests, seeds, made, strict=True)]

    def _write(self, request: Request, seed: int, sampler: Sampler, made: Made) -> tuple[Tensor, Tensor]:
        condition, words = self.condition_of(request)
        generator, layout, what = self.generator, self.generator.layout, f"{request.piece.text!r:.40}"
        size = len(self.tokenizer(words, add_special_tokens=False)["input_ids"])
        head = condition.prompt_ids(layout)
        known = 0 if condition.codes is None else condition.codes.shape[2]
        most = min(sampler.max_ids, IDS_PER_ID * size + SPARE_IDS)
        noise = SeededNoise.from_seeds([seed], generator.device)
        ids = generator.generate(condition, noise=noise, sampler=replace(
            sampler, max_ids=head.shape[1] + known + most)).values[0]
        ended = int(ids[-1]) == layout.end
        if not ended:
            made.faults.append(f"stopped at the limit of {most} ids: {what}")
        switch = (ids == layout.semantic_end).nonzero()[:, 0].tolist()
        units = ids[:switch[0]] if switch else ids
        units = units[(units > layout.num_languages) & (units < layout.first_code)] - 1 - layout.num_languages
        codes = ids.new_zeros(self.books.config.num_books, 0)
        if switch and len(ids) - ended > switch[0] + 1 + known:
            whole = WrittenSpeech(**vars(condition), ids=torch.cat([head, ids[None]], dim=1))
            codes = self.books.generate(whole, noise=noise).values[0, :, known:]
        made.faults += token_faults(request.piece.text, codes[0], rate=self.codec.frame_rate,
                                    least=LEAST_CODES * size)
        return units, codes

    def sound_of(self, request: Request, written: tuple[Tensor, Tensor], seed: int, made: Made) -> Tensor:
        """A piece comes in one part. Without a voice the first that was made is that of the others."""
        units, codes = written
        if not codes.shape[1]:
            return torch.zeros(0)
        if request.voice.codes is None:
            made.voice = replace(request.voice, tokens=without_end(units), codes=codes)
        return self.codec.decode(Tokens(codes[None]))[0, 0]

    def first_decides(self, voice: VoxInstructVoice | None) -> bool:
        """Without a recording the first piece finds the voice that speaks the others."""
        return voice is None or voice.codes is None
