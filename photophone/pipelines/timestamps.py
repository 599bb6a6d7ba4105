"""Files of the times of speech: JSON with words and phonemes, SRT and WebVTT subtitles."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photophone.core.files import atomic_write, check_target
from photophone.pipelines.output import check_suffix, json_text
from photophone.text.spoken_words import SpokenPiece, SpokenWord

SUFFIXES = (".json", ".srt", ".vtt")
CUE_CHARACTERS = 84
"""Of a subtitle: two lines of 42, as broadcasters have them."""


@dataclass(frozen=True)
class Cue:
    """A subtitle: its words and when they are said, in seconds."""

    text: str
    start: float
    end: float


def check_timestamps(path: str | Path, overwrite: bool = False) -> Path:
    """Refuse a file of times that cannot be written, before anything is spoken for it.

    Raises:
        ValueError: another suffix than those of ``SUFFIXES``.
        OSError: see :func:`photophone.core.files.check_target`.
    """
    path = check_suffix(path, SUFFIXES)
    check_target(path, overwrite)
    return path


def write_timestamps(path: str | Path, sentences: Sequence[SpokenPiece], facts: dict[str, Any] | None = None, *,
                     overwrite: bool = False) -> Path:
    """Write when each word of a speech is said, in the form that the suffix says.

    Args:
        path: ``.json``: pieces, words and phonemes in seconds; ``.srt`` or ``.vtt``: subtitles.
        sentences: of one text.
        facts: what else the JSON says, such as the text and the seed.
        overwrite: whether a file that is there may be replaced.

    Raises:
        ValueError, OSError: see :func:`check_timestamps`.
    """
    path = check_timestamps(path, overwrite)
    if path.suffix.lower() == ".json":
        text = json_text({**(facts or {}), "sentences": [piece.facts() for piece in sentences]})
    else:
        text = subtitles(cues(sentences), path.suffix.lower() == ".vtt")
    with atomic_write(path, overwrite=overwrite) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def cues(sentences: Sequence[SpokenPiece], most: int = CUE_CHARACTERS) -> Iterator[Cue]:
    """Subtitles of speech: each piece, in parts of about the same length where it has over ``most`` characters."""
    for piece in sentences:
        words = list(zip(written_words(piece), piece.words))
        length = sum(len(text) + 1 for text, _ in words)
        parts = -(-length // most)
        line: list[tuple[str, SpokenWord]] = []
        for text, word in words:
            if line and sum(len(one) + 1 for one, _ in line) + len(text) > length / parts:
                yield _cue(line)
                line = []
            line.append((text, word))
        if line:
            yield _cue(line)


def _cue(line: list[tuple[str, SpokenWord]]) -> Cue:
    return Cue(" ".join(text for text, _ in line), line[0][1].start, line[-1][1].end)


def written_words(piece: SpokenPiece) -> list[str]:
    """The words of a piece with their punctuation, one for each of ``piece.words``."""
    parts: list[str] = []
    for part in piece.text.split():
        if any(map(str.isalnum, part)) or not parts:
            parts.append(part)
        else:
            parts[-1] += part
    return parts if len(parts) == len(piece.words) else [word.text for word in piece.words]


def subtitles(made: Iterator[Cue], web: bool) -> str:
    """Subtitles as SRT, or as WebVTT for the web."""
    blocks = ["WEBVTT"] if web else []
    for number, cue in enumerate(made, 1):
        times = f"{clock(cue.start, '.' if web else ',')} --> {clock(cue.end, '.' if web else ',')}"
        blocks.append(f"{times}\n{html.escape(cue.text, quote=False)}" if web else f"{number}\n{times}\n{cue.text}")
    return "\n\n".join(blocks)


def clock(seconds: float, mark: str) -> str:
    """Seconds as hours, minutes, seconds and thousandths."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{mark}{whole % 1000:03d}"
