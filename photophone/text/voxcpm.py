"""Text as VoxCPM reads it: ids of its Llama tokenizer, Chinese characters one by one; long texts in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from photophone.core.limits import MAX_TEXT_CHARACTERS
from photophone.text.captions import check_characters, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHINESE = re.compile("[\u4e00-\u9fff]{2,}")
WORD_START = "▁"
MAX_PIECE_IDS = 200
"""Of one piece: about a minute of English."""
SENTENCE = re.compile(r"[^.!?。！？]*[.!?。！？]+[\"'”’)」』]*(?=\s|[^\x00-\x7f]|$)\s*|.+?$", re.DOTALL)


@dataclass(frozen=True)
class WrittenPiece:
    """A part of a text that is spoken in one go.

    Attributes:
        text: its words.
        ends: what ends with this piece: "clause", "sentence" or "paragraph".
        style: words in front of it that say how to speak and are not said.
        begins: it is the first of its text.
    """

    text: str
    ends: str
    style: str = ""
    begins: bool = True


def voxcpm_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text; white space of any kind counts as one space.

    Tokens of several Chinese characters become one token a character, because the model was trained so; the sign of a
    word's start that such a token may have is lost with it.

    Args:
        tokenizer: that of the published folder.
        text: the words; with a prompt those of the prompt in front.

    Raises:
        ValueError: there are no words.
    """
    text = " ".join(text.split())
    if not text:
        raise ValueError("the text is empty")
    parts: list[str] = []
    for token in tokenizer.tokenize(text):
        bare = token.replace(WORD_START, "")
        parts += list(bare) if CHINESE.fullmatch(bare) else [token]
    return tokenizer.convert_tokens_to_ids(parts)


def load_tokenizer(source: str | Path, *, revision: str | None = None, cache_dir: str | Path | None = None,
                   local_files_only: bool = False) -> PreTrainedTokenizerBase:
    """The vocabulary of a published folder or hub id.

    Raises:
        ValueError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, revision=revision, cache_dir=cache_dir, trust_remote_code=False,
                                             local_files_only=local_files_only or Path(source).is_dir())
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{source} holds no text tokenizer: {reason}") from error


def check_words(text: str) -> None:
    """Refuse what cannot be read aloud in any language.

    Raises:
        ValueError: not a string, too long, without a letter or digit, or see
            :func:`photophone.text.captions.check_characters`.
    """
    if not isinstance(text, str):
        raise ValueError(f"the text must be a string, got {type(text).__name__}")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters, the limit is {MAX_TEXT_CHARACTERS}; split it")
    check_characters(text)
    if not any(character.isalnum() for character in text):
        raise ValueError(f"the text {shorten(text, 30)!r} has no words; give words to say")


def written_pieces(tokenizer: PreTrainedTokenizerBase, text: str, limit: int = MAX_PIECE_IDS) -> Iterator[WrittenPiece]:
    """Pieces of whole sentences, as many of them together as ``limit`` ids hold.

    A longer sentence is split at commas, else between words, else between characters. A paragraph ends at an empty
    line.

    Args:
        tokenizer: see :func:`voxcpm_ids`.
        text: in any language.
        limit: ids of a piece.

    Raises:
        ValueError: see :func:`check_words`.
    """
    check_words(text)
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if any(character.isalnum() for character in line):
            sentences = [part for part in SENTENCE.findall(line) if part.strip()]
            parts = list(_join(tokenizer, sentences, limit, [r"(?<=[,;:，；：、])", r"(?<=\s)", "(?=.)"]))
            yield from (WrittenPiece(part.strip(), "sentence" if part.strip()[-1] in ".!?。！？" else "clause")
                        for part in parts[:-1])
            yield WrittenPiece(parts[-1].strip(), "paragraph")


def _join(tokenizer: PreTrainedTokenizerBase, parts: list[str], limit: int, finer: list[str]) -> Iterator[str]:
    """Neighbours put together up to ``limit`` ids; a part that is longer alone is split at the next finer places."""
    def too_long(text: str) -> bool:
        return bool(text.strip()) and len(voxcpm_ids(tokenizer, text)) > limit

    joined = ""
    for part in parts:
        if joined.strip() and too_long(joined + part):
            yield joined
            joined = ""
        if finer and not joined.strip() and too_long(part):
            *whole, joined = _join(tokenizer, [piece for piece in re.split(finer[0], part) if piece], limit, finer[1:])
            yield from whole
        else:
            joined += part
    if joined.strip():
        yield joined
