"""The front of VoxCPM: words in any language and perhaps a recorded voice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.generators.speech_sequence import SpeechSequence
from photophone.generators.voxcpm.model import VoxCPM
from photophone.loading.entry import Chain
from photophone.pipelines.speech_chains import load_generator_and_codec
from photophone.pipelines.speech_faults import Limit
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice, Voice, voice_samples
from photophone.text.lexicon import Lexicon
from photophone.text.script import Directed, Script, Span
from photophone.text.voxcpm import WrittenPiece, check_words, load_tokenizer, voxcpm_ids, written_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ()
"""Further files that are taken: none."""
MOST_STYLE = 300
"""Characters of words that say how to speak."""
STYLE = re.compile(rf"\s*\([^()\n]{{1,{MOST_STYLE}}}\)\s*(?=\S)")
"""Such words, as the authors write them in front of a text."""
PATCHES_PER_ID, SPARE_PATCHES, MOST_PATCHES = 6, 10, 2000
"""It speaks at most this long: so many patches for each id of the text, and some more."""


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a published VoxCPM, see
    :func:`photophone.pipelines.phonon_front.load_parts`."""
    parts, commit = load_generator_and_codec(name, chain, files, folder, hub, configs)
    vocabulary = load_tokenizer(files.get("text_tokenizer") or folder or chain.text_tokenizer, **hub)
    return {**parts, "text_tokenizer": vocabulary}, commit


def front(pipeline: TextToSpeechPipeline) -> PromptedSpeech:
    """What stands between texts and the generator."""
    return PromptedSpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer)


@dataclass(frozen=True)
class PromptVoice(SpokenVoice):
    """A voice as VoxCPM reads it.

    Attributes:
        tokens, text: of the recording.
        reference: float (N, D), of one that tells how the speaker sounds, beside the one that is continued.
    """

    reference: Tensor | None = None

    @property
    def continues(self) -> bool:
        """Whether the recording is continued."""
        return self.text is not None

    def facts(self) -> dict[str, Any]:
        beside = {} if self.reference is None else {"reference_tokens": len(self.reference)}
        return {**super().facts(), **beside}


class PromptedSpeech(SpeechFront):
    """Words in any language and perhaps a voice, for VoxCPM.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
        style: words in brackets in front of each piece, which say how version 2 is to speak.
    """

    takes_voices = True
    takes_references = True

    def __init__(self, generator: VoxCPM, codec: AudioCodec, tokenizer: PreTrainedTokenizerBase,
                 style: str = "") -> None:
        self.generator, self.codec, self.tokenizer, self.style = generator, codec, tokenizer, style

    def check(self, text: str) -> None:
        """Refuse what has no words."""
        check_words(text)

    def styled(self, instruction: str | None, voice: SpokenVoice | None) -> Self:
        """The same, with a style for every piece.

        Raises:
            ValueError: version 1, which knows no styles; no words, or brackets in them; or a voice that is continued,
                whose style is its own.
        """
        if instruction is None:
            return self
        if not self.generator.reads_references:
            raise ValueError(f"{type(self.generator).__name__} takes no instruction (VoxCPM does from version 2 on); "
                             "leave it out")
        if voice is not None and voice.text is not None:
            raise ValueError("a recording that is continued has its own style: leave out the instruction, or the words "
                             "of the recording")
        check_words(instruction)
        if len(instruction) > MOST_STYLE or re.search(r"[()\n]", instruction):
            raise ValueError(f"the instruction must be one line of at most {MOST_STYLE} characters without brackets, "
                             f"got {instruction[:40]!r}")
        return PromptedSpeech(self.generator, self.codec, self.tokenizer, f"({instruction.strip()})")

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return [replace(piece, style=self.style) for piece in written_pieces(self.tokenizer, text)]

    def script_pieces(self, script: Script, lexicon: Lexicon) -> list[Directed]:
        """Pieces of a script; words in brackets that a text for version 2 begins with are the style of all of them."""
        first, styled = script.items[0], self
        if self.generator.reads_references and not self.style and isinstance(first, Span):
            match = STYLE.match(first.text)
            if match is not None:
                styled = PromptedSpeech(self.generator, self.codec, self.tokenizer, match.group().lstrip())
                script = Script((replace(first, text=first.text[match.end():]), *script.items[1:]))
        made = super(PromptedSpeech, styled).script_pieces(script, lexicon)
        return [replace(one, piece=replace(one.piece, begins=index == 0)) for index, one in enumerate(made)]

    def kept_voice(self, piece: WrittenPiece, tokens: Tensor) -> SpokenVoice:
        """Beside a style the first piece tells how the speaker sounds; else it is continued."""
        return PromptVoice(tokens, None if piece.style else super().kept_voice(piece, tokens).text)

    def condition(self, requests: list[Request]) -> SpeechSequence:
        """Words and voices.

        Raises:
            ValueError: they leave no room for speech.
        """
        texts, prompts, references = [], [], []
        for voice, piece in ((request.voice, request.piece) for request in requests):
            continued = voice is not None and voice.continues
            prompts.append(voice.tokens if continued else None)
            references.append(voice and (voice.reference if continued else voice.tokens))
            style = piece.style if piece.begins or not continued else ""
            texts.append(voxcpm_ids(self.tokenizer, (voice.text if continued else "") + style + piece.text))
        sequence = self.generator.prepare(texts, prompts, references)
        most = self.generator.config.max_length
        room = most - sequence.text_ids.shape[1]
        if room < 1:
            raise ValueError(f"text and voice leave no room in the {most} positions of the model; give a shorter "
                             "recording of the voice")
        limits = torch.tensor(self.limits(requests), device=self.generator.device).clamp(max=room)
        return replace(sequence, max_patches=limits)

    def limits(self, requests: list[Request]) -> list[int]:
        """Patches: what the authors allow for a text."""
        words = [request.piece.style + request.piece.text for request in requests]
        counts = [PATCHES_PER_ID * len(voxcpm_ids(self.tokenizer, text)) + SPARE_PATCHES for text in words]
        return [min(count, MOST_PATCHES) for count in counts]

    def limit(self, condition: SpeechSequence, row: int) -> Limit:
        """So many patches."""
        most = int(condition.max_patches[row])
        return Limit(most * self.generator.config.get("patch_size", 1), f"{most} patches")

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """The end of a recording that is continued."""
        return None if voice.text is None else self.generator.context(voice.tokens)[None]

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as tokens: filled up to whole patches by silence, in front where it is to be continued, else
        behind.

        Raises:
            ValueError: the recording cannot be read, is too long, or has no text where the model needs it; or a
                reference for version 1, or beside a recording that is none to be continued.
        """
        if voice.reference is not None and (voice.text is None or not self.generator.reads_references):
            raise ValueError("a reference beside the recording is for VoxCPM 2, where the recording's words are given; "
                             "leave it out")
        if voice.text is None and not self.generator.reads_references:
            raise ValueError("this model needs the words of the voice's recording: Voice(audio, text=...)")
        if voice.text is not None:
            check_words(voice.text)
        reference = None
        if voice.reference is not None:
            reference = self._tokens(Voice(voice.reference, voice.sampling_rate), in_front=False)
        return PromptVoice(self._tokens(voice, in_front=voice.text is not None), voice.text, reference)

    def _tokens(self, voice: Voice, in_front: bool) -> Tensor:
        """A recording (N, D), with silence in front of it or behind it."""
        audio = voice_samples(voice, self.codec.sample_rate)
        missing = -len(audio) % (self.generator.config.patch_size * self.codec.hop_length)
        audio = functional.pad(audio, (missing, 0) if in_front else (0, missing))
        return self.codec.encode(audio[None, None].to(self.codec.device)).values[0]
