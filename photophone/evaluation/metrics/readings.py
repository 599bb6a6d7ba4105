"""How well written forms are read: the phonemes of a reading against those of the words that are expected."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from photophone.text.phonemes import pronounce


@dataclass(frozen=True)
class WrittenForm:
    """One form and how it is said.

    Attributes:
        kind: such as "money".
        written: as people write it.
        spoken: each way to say it in plain words; letters that are spelled stand as "F.B.I", a lone A as "eigh".
    """

    kind: str
    written: str
    spoken: tuple[str, ...]


def read_forms(path: Path, kind: str = "prose") -> list[WrittenForm]:
    r"""The forms of a table with tabs: kind (or not), written, spoken; ``\n`` is a line break, ``|`` parts readings."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line]
    return [WrittenForm(row[0] if len(row) == 3 else kind, _unescape(row[-2]), tuple(row[-1].split("|")))
            for row in rows]


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match.group(1) == "n" else match.group(1), text)


def sound(phonemes: str) -> str:
    """Phonemes without stress, spaces, marks and the difference of full and reduced vowels and of a tapped t."""
    phonemes = re.sub(r"[\W_ˈˌ]", "", phonemes).replace("T", "t")
    return re.sub("[əɐʌᵊᵻɪiʊu]", "ə", phonemes)


def misread(forms: Iterable[WrittenForm], read: Callable[[str], str]) -> dict[str, list[WrittenForm]]:
    """The forms of each kind that sound otherwise than any of their readings.

    Args:
        forms: what to read.
        read: written text to phonemes; what it raises counts as misread.
    """
    wrong: dict[str, list[WrittenForm]] = defaultdict(list)
    for form in forms:
        expected = {sound(pronounce(re.sub("[“”\"]", "", words))) for words in form.spoken}
        try:
            heard = sound(read(form.written))
        except Exception:  # noqa: BLE001 - of whatever library: it has not read the form
            heard = ""
        if heard not in expected:
            wrong[form.kind].append(form)
    return wrong
