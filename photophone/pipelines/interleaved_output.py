"""Answers of text and images, and the pages that they are saved as."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from photophone.pipelines.output import MediaOutput, file_with_facts, unique_names

IMAGE_MARK = "<image>"
"""Stands for an image in what is written of requests and answers."""
PAGE = "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n{body}\n"
Part = str | Image.Image


@dataclass
class InterleavedOutput(MediaOutput):
    """Answers of text and images, and what is needed to make them again.

    Attributes:
        parts: of each answer: texts, and images in their order; see ``output_type`` of the call.
        requests: of each answer: its texts and pictures.
        seeds: of each answer; ``torch.Generator().manual_seed(seed)`` makes it again.
        settings: options of the sampler and of the call.
        model, revision, weights_licence: of the weights.
    """

    SUFFIXES = (".html",)
    NOUN = "answers"

    parts: list[list[Any]]
    requests: list[list[Part]]
    seeds: list[int]

    @property
    def texts(self) -> list[str]:
        """The text of each answer, without its images."""
        return ["\n".join(part for part in row if isinstance(part, str)) for row in self.parts]

    @property
    def images(self) -> list[list[Any]]:
        """The images of each answer."""
        return [[part for part in row if not isinstance(part, str)] for row in self.parts]

    def names(self) -> list[str]:
        """The text of the request, and seed."""
        return unique_names([" ".join(part for part in row if isinstance(part, str)) for row in self.requests],
                            self.seeds, "answer")

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a file says of one answer."""
        return {"request": marked(self.requests[row]), "answer": marked(self.parts[row]), "seed": self.seeds[row],
                **self.settings, **self.origin}

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """See :meth:`MediaOutput.save`: one page an answer, which holds its images; only PIL images can be saved."""
        if any(not isinstance(part, str | Image.Image) for row in self.parts for part in row):
            raise ValueError("only answers of output_type 'pil' can be saved")
        return super().save(path, overwrite=overwrite)

    def write(self, row: int, file: Path, overwrite: bool) -> None:
        """A page of HTML with all pixels inside."""
        request = "\n".join(element(part) for part in self.requests[row])
        answer = "\n".join(element(part) for part in self.parts[row])
        title = html.escape(self.names()[row])
        body = f"<section>\n{request}\n</section>\n<hr>\n<section>\n{answer}\n</section>"
        with file_with_facts(file, self.facts(row), overwrite=overwrite) as partial:
            partial.write_text(PAGE.format(title=title, body=body), encoding="utf-8")


def marked(parts: list[Any]) -> list[str]:
    """Parts with a mark in the place of each image."""
    return [part if isinstance(part, str) else IMAGE_MARK for part in parts]


def element(part: Part) -> str:
    """A part as HTML."""
    if isinstance(part, str):
        return f"<p style=\"white-space: pre-wrap\">{html.escape(part)}</p>"
    data = io.BytesIO()
    part.save(data, format="PNG")
    return f"<img alt=\"\" src=\"data:image/png;base64,{base64.b64encode(data.getvalue()).decode('ascii')}\">"
