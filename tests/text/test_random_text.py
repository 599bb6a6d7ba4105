"""Whatever is typed is read, or refused with a reason: never an error of our own."""

import random
import re
from pathlib import Path

import pytest

from photophone.text.phonemes import SYMBOLS
from photophone.text.speech_text import MAX_PIECE_PHONEMES, check_text, speech_pieces, unread_parts

FORMS = Path(__file__).parent / "forms"
REFUSALS = re.compile("is empty|only punctuation|cannot be read as English|can be read|control character|"
                      "half a surrogate|without a|no meaning|remove it|unassigned|not a character")
PLANES = ((0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x400), (0x2000, 0x2C00), (0x20, 0x30000))
PARTS = ("$", "£", "%", "-", "–", ".", ",", ":", "/", " ", "\n", "'", '"', "(", ")", "°", "²", "₂", "½", "×", "1", "20",
         "3.5", "1,000", "a", "A", "I", "IV", "km", "mg", "Dr.", "St.", "No.", "p.m.", "U.S.", "CO2", "NaCl", "http://",
         "@", "#", "*", "_", "^", "&", "+", "=", "<", ">", "~", "|", "\\", "e.g.", "Jan", "1st", "2024", "s", "Ω", "Δ",
         "μ", "the", "lead", "read", "😀", "👍🏽", "🇫🇷", "\u200d", "é", "™", "→", "∑", "ﬁ", "Ⅳ", "①", "٣", "ʃ",
         "“", "”", "…")


def random_text(source):
    """Characters of one or of several planes, written parts in disorder, or a form of the list with changes."""
    kind = source.randrange(3)
    length = source.randint(1, 30)
    if kind == 0:
        planes = [source.choice(PLANES) for _ in range(source.randint(1, 2))]
        return "".join(chr(source.randrange(*source.choice(planes))) for _ in range(length))
    if kind == 1:
        return "".join(source.choice(PARTS) for _ in range(length))
    text = list(source.choice(WRITTEN))
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(text) + 1)
        text[place:place + source.randint(0, 2)] = source.choice(PARTS)
    return "".join(text)


WRITTEN = [line.split("\t")[1] for line in (FORMS / "written_forms.tsv").read_text(encoding="utf-8").splitlines()[1:]]


def read_or_refuse(text):
    """None when a text is read as it must be, else what is wrong."""
    try:
        check_text(text)
        pieces = list(speech_pieces(text))
        unread_parts(text)
    except ValueError as refusal:
        return None if REFUSALS.search(str(refusal)) and "\n" not in str(refusal) else f"{text!r}: {refusal!r}"
    except Exception as error:  # noqa: BLE001
        return f"{text!r}: {error!r}"
    good = all(set(piece.phonemes) <= set(SYMBOLS) and 1 <= len(piece.phonemes) <= MAX_PIECE_PHONEMES
               and piece.phonemes[-1] in ".!?" and any(map(str.isalpha, piece.phonemes)) for piece in pieces)
    return None if pieces and good else f"{text!r}: {pieces}"


def test_two_thousand_random_texts():
    source = random.Random(7)
    assert [wrong for wrong in (read_or_refuse(random_text(source)) for _ in range(2000)) if wrong] == []


@pytest.mark.slow
def test_a_hundred_thousand_random_texts():
    source = random.Random(15)
    assert [wrong for wrong in (read_or_refuse(random_text(source)) for _ in range(100_000)) if wrong] == []
