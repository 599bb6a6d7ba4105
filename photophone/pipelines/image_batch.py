"""Many images from a file of prompts, in a folder, so that a run that is killed goes on where it was.

Each image is written whole with a JSON of its settings beside it; what is there and was made by the same request is not
made again. ``manifest.json`` says what was asked for and what is done.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from photophone.core.files import atomic_write, check_source, check_target, remove_left_overs, taken
from photophone.core.limits import MAX_PROMPT_FILE_BYTES, MAX_PROMPTS_IN_FILE
from photophone.pipelines.output import MARK, digest, is_own_result, json_text, slug
from photophone.pipelines.text_to_image import check_prompt

if TYPE_CHECKING:
    from photophone.pipelines.text_to_image import TextToImagePipeline

MANIFEST = "manifest.json"
AT_ONCE = 16
"""Images of one call; after each call the manifest is written."""
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Wanted:
    """One image of a batch.

    Args:
        number: of the image, from 1.
        prompt: what it shows.
        seed: of its noise.
    """

    number: int
    prompt: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file, without suffix: the number and the beginning of the prompt."""
        return "-".join(filter(None, (f"{self.number:05d}", slug(self.prompt))))


def read_prompts(file: str | Path) -> list[tuple[str, int | None]]:
    """Prompts of a file, with the seeds that it gives.

    Args:
        file: UTF-8 text, one prompt a line, empty lines left out; or, where the name ends in .csv, a table with a
            column ``prompt`` and maybe a column ``seed``.

    Raises:
        ValueError: no such file, one that is too large or no text, a line that is no prompt, or more prompts than
            ``MAX_PROMPTS_IN_FILE``. The message names the line.
    """
    file = check_source(file)
    data = file.read_bytes()
    if len(data) > MAX_PROMPT_FILE_BYTES:
        raise ValueError(f"{file} has {len(data)} bytes, the limit of files of prompts is {MAX_PROMPT_FILE_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not written in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") \
            from error
    lines = read_table(text, file) if file.suffix.lower() == ".csv" else [
        (number, line.strip(), "") for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not 1 <= len(lines) <= MAX_PROMPTS_IN_FILE:
        raise ValueError(f"{file} has {len(lines)} prompts; 1 to {MAX_PROMPTS_IN_FILE} are possible")
    prompts = []
    for number, prompt, seed in lines:
        try:
            check_prompt(prompt)
            prompts.append((prompt, read_seed(seed)))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
    return prompts


def read_table(text: str, file: Path) -> list[tuple[int, str, str]]:
    """Line, prompt and seed of each row of a CSV.

    Raises:
        ValueError: it has no column ``prompt``, or cannot be read.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "prompt" not in (reader.fieldnames or []):
            raise ValueError(f"{file} has no column 'prompt'; its first line must name the columns: prompt,seed")
        return [(reader.line_num, row["prompt"] or "", row.get("seed") or "") for row in reader]
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from error


def read_seed(text: str) -> int | None:
    """A seed as a CSV has it, or None where the cell is empty.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise ValueError(f"a seed must be a whole number from 0 to {LARGEST_SEED}, got {text[:40]!r}")
    return int(text)


class ImageBatch:
    """A batch in a folder.

    Args:
        folder: for the images; made where it is missing.
        prompts: of :func:`read_prompts`.
        number: images of each prompt.
        seed: of the first image, the next take the next seeds, where the file gives none; None: those of a former run
            in the folder, else 0.
        settings: options of the pipeline's call, the same for all.
        model: of the pipeline, with its revision.
        overwrite: whether other files of the same names, and a batch of another request, may be replaced.

    Raises:
        ValueError: too many images, or a folder that holds a batch of another request.
        FileExistsError: a file of the same name that this batch did not write.
        OSError: files cannot be written there.
    """

    def __init__(self, folder: str | Path, prompts: list[tuple[str, int | None]], *, number: int = 1,
                 seed: int | None = None, settings: dict[str, Any] | None = None,
                 model: dict[str, Any] | None = None, overwrite: bool = False) -> None:
        count = len(prompts) * number
        if count > MAX_PROMPTS_IN_FILE:
            raise ValueError(f"{len(prompts)} prompts x {number} images asked for; a batch has at most "
                             f"{MAX_PROMPTS_IN_FILE}")
        self.folder, self.overwrite = Path(folder), overwrite
        self.manifest = self.folder / MANIFEST
        former = self._former()
        first = seed if seed is not None else (former or {}).get("seed", 0)
        if not isinstance(first, int) or not 0 <= first <= LARGEST_SEED - count:
            raise ValueError(f"the seed must be 0 to {LARGEST_SEED - count} for {count} images, got {first!r}")
        rows = [(prompt, None if own is None else own + place) for prompt, own in prompts for place in range(number)]
        self.wanted = [Wanted(place + 1, prompt, first + place if own is None else own)
                       for place, (prompt, own) in enumerate(rows)]
        listed = json_text([[one.prompt, one.seed] for one in self.wanted])
        self.request = {"seed": first, "number": number, "prompts": len(prompts), "settings": settings or {},
                        **(model or {}), "prompts_sha256": hashlib.sha256(listed.encode()).hexdigest()}
        if former is not None and not overwrite:
            self._check_same(former)
        check_target(self.manifest, overwrite=True)
        remove_left_overs(self.folder)
        self.digests: dict[int, str] = {}
        self.left = [one for one in self.wanted if not self.is_done(one)]

    def _former(self) -> dict[str, Any] | None:
        """The request of the batch in the folder, or None."""
        if not self.manifest.is_file():
            return None
        try:
            content = json.loads(self.manifest.read_text(encoding="utf-8"))
            return content["request"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self.overwrite:
                return None
            raise ValueError(f"{self.manifest} is no manifest of a batch; give another folder, or --overwrite") \
                from error

    def _check_same(self, former: dict[str, Any]) -> None:
        asked = json.loads(json_text(self.request))
        other = [name for name in asked if former.get(name) != asked[name]]
        if other:
            raise ValueError(f"{self.folder} holds a batch of another request (other {', '.join(other)}); give the "
                             "same prompts and options to go on with it, another folder, or --overwrite")

    def file(self, one: Wanted) -> Path:
        """Where an image is written."""
        return self.folder / f"{one.name}.png"

    def is_done(self, one: Wanted) -> bool:
        """Whether an image is there, whole, and made by this request.

        Raises:
            FileExistsError: another file is in its place, and none may be replaced.
        """
        file = self.file(one)
        beside = file.with_suffix(".json")
        own = self._mark_in(beside) == self.mark(one)
        if own and is_own_result(file):
            self.digests[one.number] = digest(file)
            return True
        if own and not file.exists():  # a run was killed between the two
            beside.unlink()
        there = [path for path in (file, beside) if path.exists()]
        if there and not self.overwrite:
            raise taken(there[0])
        return False

    @staticmethod
    def _mark_in(beside: Path) -> str | None:
        """The mark in the JSON beside an image, or None."""
        try:
            return json.loads(beside.read_text(encoding="utf-8")).get("batch")
        except (OSError, ValueError, AttributeError):
            return None

    def mark(self, one: Wanted) -> str:
        """What says that an image is of this request: a digest of its prompt, seed and options."""
        text = json_text([one.prompt, one.seed, self.request["settings"], self.request.get("model"),
                          self.request.get("revision")])
        return hashlib.sha256(text.encode()).hexdigest()

    def run(self, pipeline: TextToImagePipeline, told: Callable[[int, int], None] | None = None) -> int:
        """Make what is missing.

        Args:
            pipeline: whose model the request names.
            told: called with the number of images that are there and of all, at first and after each call.

        Returns:
            Images that were made.
        """
        made = 0
        self.write_manifest()
        for start in range(0, len(self.left), AT_ONCE):
            part = self.left[start:start + AT_ONCE]
            if told is not None:
                told(len(self.wanted) - len(self.left) + made, len(self.wanted))
            output = pipeline([one.prompt for one in part], **self.request["settings"],
                              generator=[torch.Generator().manual_seed(one.seed) for one in part])
            own = output.rows or [{} for _ in part]
            output.rows = [{**row, "batch": self.mark(one)} for row, one in zip(own, part)]
            for row, one in enumerate(part):
                output.write(row, self.file(one), self.overwrite)
                self.digests[one.number] = digest(self.file(one))
                made += 1
            self.write_manifest()
        if told is not None:
            told(len(self.wanted), len(self.wanted))
        return made

    def write_manifest(self) -> None:
        """Write what was asked for and what is there, whole."""
        images = [{"number": one.number, "file": self.file(one).name, "prompt": one.prompt, "seed": one.seed,
                   MARK: self.digests[one.number]} for one in self.wanted if one.number in self.digests]
        content = {"request": self.request, "images": len(self.wanted), "done": images}
        with atomic_write(self.manifest) as partial:
            partial.write_text(json_text(content), encoding="utf-8")
