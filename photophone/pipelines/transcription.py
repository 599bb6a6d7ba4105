"""What was said in recordings, and what is needed to write it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from photophone.pipelines.output import MediaOutput, file_with_facts, unique_names
from photophone.text.delayed_streams import TimedWord


@dataclass
class Transcription(MediaOutput):
    """Texts of recordings with the times of their words.

    Attributes:
        texts: of each recording.
        words: of each, see :class:`photophone.text.delayed_streams.TimedWord`.
        seconds: of each.
        seeds: of each; they matter where the temperature is over 0.
        names_of: names of the recordings, for files; empty where they have none.
        settings: the other options of the call.
        model, revision, weights_licence: of the weights.
    """

    SUFFIXES = (".txt",)
    NOUN = "recordings"

    texts: list[str]
    words: list[list[TimedWord]]
    seconds: list[float]
    seeds: list[int]
    names_of: list[str] = field(default_factory=list, kw_only=True)

    def names(self) -> list[str]:
        """Names of the recordings, or their first words, with the seed."""
        return unique_names(self.names_of or self.texts, self.seeds, "recording")

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a text says: the text again, and its words with their times in seconds."""
        return {"text": self.texts[row], "words": [asdict(word) for word in self.words[row]],
                "seconds": self.seconds[row], "seed": self.seeds[row], **self.settings, **self.origin}

    def write(self, row: int, file: Path, overwrite: bool) -> None:
        """A text in UTF-8."""
        with file_with_facts(file, self.facts(row), overwrite=overwrite) as partial:
            partial.write_text(self.texts[row] + "\n", encoding="utf-8")
