"""Instructions as VoxInstruct reads them: a description of the voice and the words to say, between quotation marks."""

from __future__ import annotations

import re

QUOTED = re.compile(r"“([^”]*)”|\"([^\"]*)\"")
MARKS = re.compile(r"[“”\"]")
CHINESE = re.compile("[\u4e00-\u9fff]")
LANGUAGES = ("English", "Chinese")


def quoted_words(text: str) -> str | None:
    """The words between the first quotation marks of a text; None where there are none."""
    found = next((match for match in QUOTED.finditer(text) if any(map(str.isalnum, match[0]))), None)
    return None if found is None else (found[1] if found[1] is not None else found[2]).strip()


def language_of(words: str) -> int:
    """Place in ``LANGUAGES`` of words to say."""
    return int(CHINESE.search(words) is not None)


def full_instruction(text: str, instruction: str | None = None) -> tuple[str, str]:
    """What the model reads, and the words to say.

    Args:
        text: words to say; without an instruction perhaps an instruction itself, with these between quotation marks.
        instruction: how they are said, such as "a low female voice".
    """
    words = None if instruction is not None else quoted_words(text)
    if words is not None:
        return _written(text), words
    words = " ".join(MARKS.sub("'", text).split())
    marked = f"“{words}”" if language_of(words) else f'"{words}"'
    if instruction is None:
        return _written(marked), words
    lead = instruction.strip().rstrip(",:;，：；。.")
    return _written(f"{lead}{'，' if CHINESE.search(lead) else ', '}{marked}"), words


def _written(text: str) -> str:
    """A large letter in front, small ones behind, as the authors do it."""
    return " ".join(text.split()).capitalize()
