"""The base of fronts whose pieces of text become sound one by one, as those of speech language models do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from photophone.generators.sampler import Sampler
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice, Voice
from photophone.text.sparktts import VoiceAttributes
from photophone.text.voxcpm import WrittenPiece, check_words, written_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


PIECE_IDS = 80
"""Of a piece."""


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
    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]) -> list[Any]:
        """What the language model writes for some pieces, all together; each gets what it would get alone.

        Args:
            requests: the pieces and their voices.
            seeds: of all draws of each.
            sampler: of the generator.
            made: takes down what happened to each.
        """

    @abstractmethod
    def sound_of(self, request: Request, written: Any, seed: int, made: Made) -> Tensor:
        """Speech (T,) of what :meth:`write` wrote for a piece; T may be 0."""

    def stream(self, request: Request, seed: int, sampler: Sampler, made: Made) -> Iterator[Tensor]:
        """The same speech in parts, as soon as they can be made; here in one."""
        (written,) = self.write([request], [seed], sampler, [made])
        yield self.sound_of(request, written, seed, made)

    @abstractmethod
    def whole_voice(self, voice: Voice | VoiceAttributes | str | None, instruction: str | None) -> SpokenVoice:
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
        """Pieces are written by :meth:`write`."""
        raise ValueError("pieces of this model become sound one by one")
