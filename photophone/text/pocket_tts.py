"""Text as Pocket TTS reads it: characters that its training did not have, first and last ones, pieces of 50 ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from photophone.text.voxcpm import SENTENCE, WrittenPiece, check_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_PIECE_IDS = 50
WEAK, FINAL, CLOSING = ",;:-–—", ".!?…", "\"'”’)]»"
"""Marks that do not end a sentence, marks that do, and marks that may stand behind both."""
APOSTROPHES = {"’": "'", "‘": "'"}
QUOTES = {**dict.fromkeys("\"“”„«»()[]", ""), "–": ","}


@dataclass(frozen=True)
class PocketRules:
    """What a model's training text did not have.

    Args:
        replaced: characters and what stands for them; "" deletes one.
        keep_semicolons: False: they become commas.
    """

    replaced: dict[str, str] = field(default_factory=lambda: dict(APOSTROPHES))
    keep_semicolons: bool = True


LANGUAGES = {
    "english": PocketRules(),
    "dutch": PocketRules({**APOSTROPHES, **QUOTES}), "italian": PocketRules({**APOSTROPHES, **QUOTES}),
    "portuguese": PocketRules({**APOSTROPHES, **QUOTES}),
    "spanish": PocketRules({**APOSTROPHES, **QUOTES, "¡": "", "¿": ""}),
    "french": PocketRules({**APOSTROPHES, **QUOTES, ":": ","}, keep_semicolons=False),
    "german": PocketRules({**APOSTROPHES, **QUOTES, "—": ","}, keep_semicolons=False)}


def rules_of(model: str | None) -> PocketRules:
    """The rules of a registered model; those of English for others."""
    return next((rules for language, rules in LANGUAGES.items() if language in (model or "")), LANGUAGES["english"])


def load_pocket_tokenizer(source: str | Path, file: str = "tokenizer.json", *, revision: str | None = None,
                          cache_dir: str | Path | None = None,
                          local_files_only: bool = False) -> PreTrainedTokenizerFast:
    """The vocabulary of a published folder, file or hub id.

    Args:
        source: a ``tokenizer.json``, a folder with one, or a hub id.
        file: in a hub repository.
        revision, cache_dir, local_files_only: of the hub download.

    Raises:
        ValueError: there is none.
    """
    from transformers import PreTrainedTokenizerFast

    from photophone.loading.hub import download

    path = Path(source)
    if path.is_dir():
        path = path / "tokenizer.json"
    elif not path.is_file():
        path, _ = download(str(source), file, revision, cache_dir, local_files_only)
    if not path.is_file():
        raise ValueError(f"{source} holds no tokenizer.json; take the one that was published beside the weights")
    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(path))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"{path} is no text tokenizer: {error}") from error


def pocket_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of a text, without any for its beginning and end."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def written(text: str, rules: PocketRules) -> str:
    """A piece of text as the model was trained on it: one line, a large first letter, a mark at the end.

    Raises:
        ValueError: see :func:`photophone.text.voxcpm.check_words`.
    """
    check_words(text)
    text = " ".join(text.translate(str.maketrans(rules.replaced)).split())
    # a quotation whose marks were deleted leaves "Hi?, she said"
    text = re.sub(r"([.!?…])\s*[,;:]", r"\1", text)
    if not rules.keep_semicolons:
        text = text.replace(";", ",")
    text = text[0].upper() + text[1:]
    core = text.rstrip(CLOSING + " ")
    if not core or core[-1] in FINAL:
        return text
    if core[-1] in WEAK:
        return core.rstrip(WEAK + " ") + "." + text[len(core):].strip()
    return text + "."


def frames_after(text: str) -> int:
    """Frames that are kept after the end of a piece: short ones end more slowly."""
    return 5 if len(text.split()) <= 4 else 3


def pocket_pieces(tokenizer: PreTrainedTokenizerFast, text: str, rules: PocketRules,
                  limit: int = MAX_PIECE_IDS) -> Iterator[WrittenPiece]:
    """Pieces of whole sentences, as many of them together as ``limit`` ids hold.

    A longer sentence is split at commas, else between words, else anywhere. A paragraph ends at an empty line.

    Raises:
        ValueError: see :func:`photophone.text.voxcpm.check_words`.
    """
    check_words(text)
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if not any(character.isalnum() for character in line):
            continue
        sentences = [part for part in SENTENCE.findall(line) if part.strip()]
        parts = [part for part in _joined(tokenizer, sentences, limit, [r"(?<=[,;:])", r"(?<=\s)", r"(?=.)"])
                 if any(character.isalnum() for character in part)]
        for part in parts[:-1]:
            yield WrittenPiece(written(part, rules), "sentence" if part.strip()[-1] in FINAL else "clause")
        yield WrittenPiece(written(parts[-1], rules), "paragraph")


def _joined(tokenizer: PreTrainedTokenizerFast, parts: list[str], limit: int, finer: list[str]) -> Iterator[str]:
    """Neighbours put together up to ``limit`` ids; a part that is longer alone is split at the next finer places."""
    held = ""
    for part in parts:
        if held and len(pocket_ids(tokenizer, (held + part).strip())) > limit:
            yield held
            held = ""
        if finer and not held and len(pocket_ids(tokenizer, part.strip())) > limit:
            *whole, held = _joined(tokenizer, [piece for piece in re.split(finer[0], part) if piece], limit, finer[1:])
            yield from whole
        else:
            held += part
    if held:
        yield held
