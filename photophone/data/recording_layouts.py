"""How recordings with their texts lie on a disk: LJSpeech, LibriTTS, LibriSpeech, folders, CSV, parquet, webdataset.

Every reader yields the file or its bytes, and fields: ``text``, ``speaker``, ``clip`` (a name for messages), and what
else a table says.
"""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from photophone.core.limits import MAX_AUDIO_BYTES
from photophone.data.audio_checks import READ_SUFFIXES
from photophone.data.image_sources import read_lines, read_webdataset

AUDIO_COLUMNS = ("audio", "file_name", "file", "path", "wav", "filename", "audio_file")
"""Of a table: the first of them that is there names the recording."""
TEXT_COLUMNS = ("normalized_text", "text", "sentence", "transcript", "transcription", "caption")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "reader")
Recording = tuple[Path | bytes, dict]


def first_of(row: dict, columns: tuple[str, ...]) -> str:
    """What the first of these columns says that a row has, "" without any."""
    return next((str(row[column]).strip() for column in columns if row.get(column)), "")


def read_parquet(path: Path) -> Iterator[Recording]:
    """Of a parquet file with a column ``audio`` (bytes, or a struct with bytes), perhaps ``text``."""
    from pyarrow import parquet
    file = parquet.ParquetFile(path)
    if "audio" not in file.schema_arrow.names:
        raise ValueError(f"{path} has no column 'audio', only {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(batch_size=64):
        for row in batch.to_pylist():
            audio = row.pop("audio")
            yield (audio["bytes"] if isinstance(audio, dict) else audio), row


def read_tar(path: Path) -> Iterator[Recording]:
    """Of a webdataset shard: ``KEY.wav`` (or another kind of sound) with ``KEY.txt`` or ``KEY.json``."""
    for number, (data, fields) in enumerate(read_webdataset(path, None, READ_SUFFIXES, "text", MAX_AUDIO_BYTES)):
        yield data, {**fields, "text": first_of(fields, TEXT_COLUMNS), "clip": f"{path.name} {number}",
                     "speaker": first_of(fields, SPEAKER_COLUMNS) or path.stem}


def read_table(path: Path) -> Iterator[Recording]:
    """Of a .csv or .tsv with a header, or a .jsonl: a column of AUDIO_COLUMNS, one of TEXT_COLUMNS, perhaps a speaker.
    Paths are relative to the table; other columns are fields.

    Raises:
        ValueError: no column names recordings.
    """
    for row in table_rows(path):
        name = first_of(row, AUDIO_COLUMNS)
        if not any(column in row for column in AUDIO_COLUMNS):
            raise ValueError(f"{path} has no column that names recordings, only {', '.join(row)}; call it 'audio'")
        fields = {key: value for key, value in row.items() if key and key not in AUDIO_COLUMNS}
        yield path.parent / name, {**fields, "text": first_of(row, TEXT_COLUMNS), "clip": name,
                                   "speaker": first_of(row, SPEAKER_COLUMNS) or path.absolute().parent.name}


def table_rows(path: Path) -> Iterator[dict]:
    """Rows of a .csv, .tsv or .jsonl."""
    if path.suffix == ".jsonl":
        yield from read_lines(path)
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")


def names_recordings(path: Path) -> bool:
    """Whether a .csv names recordings, and is no list of sentences."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return bool(set(AUDIO_COLUMNS) & set(next(csv.reader(file), ())))


def read_ljspeech(path: Path) -> Iterator[Recording]:
    """The LJSpeech layout: ``metadata.csv`` with ``id|text|normalised text`` and ``wavs/id.wav`` (or another kind)."""
    for line in (path / "metadata.csv").read_text(encoding="utf-8-sig").split("\n"):
        if line.strip():
            name, *texts = line.split("|")
            files = [path / "wavs" / f"{name}{suffix}" for suffix in READ_SUFFIXES]
            file = next((file for file in files if file.exists()), files[0])
            yield file, {"text": texts[-1].strip() if texts else "", "speaker": path.absolute().name, "clip": name}


def read_folder(path: Path) -> Iterator[Recording]:
    """A folder of audio files; the text from ``NAME.normalized.txt`` (LibriTTS), ``NAME.txt``, or the line of NAME in a
    ``*.trans.txt`` beside it (LibriSpeech); the speaker is the first folder below ``path``, as in both."""
    listed: dict[Path, dict[str, str]] = {}
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in READ_SUFFIXES):
        if file.parent not in listed:
            listed[file.parent] = transcripts(file.parent)
        sidecars = (file.with_suffix(".normalized.txt"), file.with_suffix(".txt"))
        text = next((s.read_text("utf-8", "replace").strip() for s in sidecars if s.exists()), "")
        parts = file.relative_to(path).parts
        yield file, {"text": text or listed[file.parent].get(file.stem, ""), "clip": str(file.relative_to(path)),
                     "speaker": parts[0] if len(parts) > 1 else path.absolute().name}


def transcripts(folder: Path) -> dict[str, str]:
    """Texts by the names of recordings, of all ``*.trans.txt`` in a folder."""
    lines = [line for file in sorted(folder.glob("*.trans.txt")) for line in file.read_text("utf-8").split("\n")]
    return {name: text.strip() for name, _, text in (line.partition(" ") for line in lines) if name}


def folder_reader(path: Path):
    """How the recordings of a folder are read."""
    table = next((path / name for name in ("metadata.csv", "metadata.jsonl", "metadata.tsv")
                  if (path / name).exists()), None)
    if table is None:
        return read_folder(path)
    if table.suffix == ".csv" and not names_recordings(table):
        return read_ljspeech(path)
    return read_table(table)


def read_recordings(path: Path) -> Iterator[Recording]:
    """(audio file or its bytes, fields) of a parquet file, a webdataset tar, a table that names recordings, or a folder
    of any of the layouts above.

    Raises:
        ValueError: missing, of another kind, or damaged.
    """
    readers = {".parquet": read_parquet, ".tar": read_tar, ".csv": read_table, ".tsv": read_table, ".jsonl": read_table}
    if not path.is_dir() and (path.suffix not in readers or not path.exists()):
        raise ValueError(f"{path} is not a folder or a .parquet, .tar, .csv, .tsv or .jsonl file")
    try:
        yield from folder_reader(path) if path.is_dir() else readers[path.suffix](path)
    except (OSError, KeyError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, tarfile.TarError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
