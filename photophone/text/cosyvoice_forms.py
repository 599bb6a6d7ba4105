"""Text as the front end of CosyVoice's authors gives it to the models: written forms spelled out, then pieces.

Numbers, dates and the like become words by the grammars of wetext, what digits are left in English by inflect: both are
the extra ``photophone[cosyvoice]``. Pieces are sentences put together until they are long enough (CosyVoice,
``cosyvoice/utils/frontend_utils.py``, Apache-2.0).
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from photophone.text.captions import shorten
from photophone.text.voxcpm import WrittenPiece, check_words, written_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST, LEAST, LAST = 80, 60, 20
"""Characters of Chinese, or ids of other text, of a piece: it ends before it would have more than the first, if it has
more than the second; a last one with less than the third joins the one before."""
WHOLE = 200
"""Ids of a text that is not taken apart, and of any piece: as many as in training."""
CHINESE = re.compile("[\u4e00-\u9fff]")
MARKS, CHINESE_MARKS = ".?!;:", "。？！；：、.?!;"
"""What a sentence may end with."""
TOKEN = re.compile(r"<\|.*?\|>", re.DOTALL)
SIGNS = str.maketrans({"²": "平方", "³": "立方", ".": "。", "（": "", "）": "", "【": "", "】": "", "`": ""})
LIBRARIES = ("wetext", "inflect")
HINT = "pip install 'photophone[cosyvoice]'"


def has_chinese(text: str) -> bool:
    """Whether a text is read as Chinese."""
    return CHINESE.search(text) is not None


def is_rewritten(text: str, normalize: bool | None) -> bool:
    """Whether written forms of a text are spelled out.

    Texts with tokens such as ``<|en|>`` stay as they are. Where the libraries are missing, None leaves the text alone
    and warns if it holds digits.

    Args:
        text: as it was given.
        normalize: True: yes; False: no; None: if the libraries are there.

    Raises:
        ValueError: True without the libraries.
    """
    if normalize is False or TOKEN.search(text):
        return False
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if not missing:
        return True
    way_out = f"{HINT}, or give normalize=False"
    if normalize:
        raise ValueError(f"normalize=True needs {' and '.join(missing)}: {way_out}")
    if any(character.isdigit() for character in text):
        warnings.warn(f"the digits of {shorten(text, 40)!r} are read as they are written, for want of "
                      f"{' and '.join(missing)}; {way_out}", stacklevel=2)
    return False


@lru_cache(maxsize=1)
def _grammars() -> tuple[Any, Any]:
    """Of Chinese, with its words in -r kept, and of English."""
    from wetext import Normalizer

    return Normalizer(remove_erhua=False), Normalizer()


@lru_cache(maxsize=1)
def _numbers() -> Any:
    from inflect import engine

    return engine()


def spelled_out(text: str) -> str:
    """A text with its written forms as words, in Chinese or English.

    Raises:
        ValueError: the grammars fail on it; names the way out.
    """
    chinese, english = _grammars()
    text = text.strip()
    try:
        if not has_chinese(text):
            words = _unescaped(english.normalize(text))
            return re.sub(r"\d+", lambda found: _numbers().number_to_words(found[0]), words)
        text = _unescaped(chinese.normalize(text))
    except Exception as error:  # what these libraries raise has no common class
        raise ValueError(f"wetext cannot read {shorten(text, 60)!r} ({type(error).__name__}: {str(error)[:80]}); give "
                         "normalize=False") from error
    text = re.sub(" +", " ", text.replace("\n", ""))
    text = re.sub(r"(?<![!-~]) | (?![!-~])", "", text)  # blanks stay between ASCII alone
    return re.sub("[，,、]+$", "。", text.translate(SIGNS).replace(" - ", "，").replace("——", " "))


def _unescaped(text: str) -> str:
    """What the grammars give, without the backslashes that they put before quotes and backslashes."""
    return re.sub(r'\\(["\\])', r"\1", text)


def as_said(text: str, normalize: bool | None) -> str:
    """A text with its written forms as words, or as it is; see :func:`is_rewritten`.

    With None a text on which the grammars fail is left as it is, with a warning.

    Raises:
        ValueError: True, without the libraries or with a text on which they fail.
    """
    if not is_rewritten(text, normalize):
        return text
    try:
        return spelled_out(text)
    except ValueError as error:
        if normalize:
            raise
        warnings.warn(f"read as it is written: {error}", stacklevel=2)
        return text


def sentence_groups(text: str, count: Callable[[str], int]) -> list[str]:
    """The pieces of a paragraph, as the authors cut it; several marks in a row become the first of them.

    Args:
        text: a paragraph.
        count: ids of a text.
    """
    marks, stop, size = (CHINESE_MARKS, "。", len) if has_chinese(text) else (MARKS, ".", count)
    if text[-1] not in marks:
        text += stop
    found = re.findall(f"([^{marks}]+[{marks}])[{marks}]*([\"”]?)", text)
    pieces, piece = [], ""
    for sentence in map("".join, found):
        if piece and size(piece) > LEAST and size(piece + sentence) > MOST:
            pieces.append(piece)
            piece = ""
        piece += sentence
    if pieces and size(piece) < LAST:
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)
    return [piece for piece in pieces if has_words(piece)]


def has_words(text: str) -> bool:
    """Whether there is more in a text than blanks, punctuation and signs."""
    return any(unicodedata.category(character)[0] not in "PSZC" for character in text)


def cosyvoice_pieces(tokenizer: PreTrainedTokenizerBase, text: str, normalize: bool | None = None
                     ) -> list[WrittenPiece]:
    """Pieces of a text; an empty line ends a paragraph.

    A text that is left as it is because of ``normalize=False`` or of tokens in it is one piece a paragraph up to
    ``WHOLE`` ids. No piece has more than these.

    Args:
        tokenizer: of the model.
        text: in any language.
        normalize: see :func:`is_rewritten`.

    Raises:
        ValueError: there are no words, or see :func:`is_rewritten` and :func:`spelled_out`.
    """
    pieces = list(_pieces(tokenizer, text, normalize))
    if not pieces:
        raise ValueError(f"nothing is left to say of {shorten(text, 60)!r}; give words, or normalize=False")
    return pieces


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str, normalize: bool | None) -> Iterator[WrittenPiece]:
    check_words(text)
    whole = normalize is False or TOKEN.search(text) is not None

    def count(part: str) -> int:
        return len(tokenizer(part, add_special_tokens=False)["input_ids"])

    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if has_words(part)]
    for paragraph in paragraphs:
        line = paragraph if whole else as_said(paragraph, normalize)
        parts = [line] if whole else sentence_groups(line, count)
        pieces = [piece for part in parts for piece in (
            [WrittenPiece(part, "sentence")] if count(part) <= WHOLE else written_pieces(tokenizer, part, WHOLE))]
        for index, piece in enumerate(pieces):
            ends = "paragraph" if index == len(pieces) - 1 else "clause" if piece.ends == "clause" else "sentence"
            yield WrittenPiece(piece.text, ends)
