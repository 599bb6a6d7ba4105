"""Parts of released delayed-streams models: language model, Mimi and vocabulary, as ``config.json`` names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from photophone.codecs.base import AudioCodec
from photophone.loading.chains import OfficialSettings, check_chain, read_config, settings_of
from photophone.loading.hub import download
from photophone.loading.registry import find, load_original
from photophone.loading.saved import is_saved_model
from photophone.text.sentencepiece import load_sentencepiece

FILE_NAMES = {"lm": ("moshi_name", "model.safetensors"),
              "mimi": ("mimi_name", "tokenizer-e351c8d8-checkpoint125.safetensors"),
              "text_tokenizer": ("tokenizer_name", "tokenizer_spm_32k_3.model")}
"""Of parts, as ``config.json`` says them, and where it does not."""


def load_streams(owner: str, name: str, folder: str | Path | None, hub: Mapping[str, Any], files: Mapping[str, Any],
                 configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The parts of a released delayed-streams model.

    Args:
        owner: name of the pipeline class.
        name: of the model in the registry.
        folder: the published folder or a hub id; None: the registry's hub id.
        hub: revision, cache_dir and local_files_only.
        files: that the user gave: ``lm``, ``mimi``, ``text_tokenizer``.
        configs: settings that replace those of ``config.json``, by the names of the files but the last.

    Returns:
        ``lm``, ``mimi`` and ``text_tokenizer``; and the commit of hub files.

    Raises:
        ValueError: an unknown name, or one for another pipeline; files that are missing or do not fit.
    """
    chain = check_chain(owner, name, files, ("text_tokenizer",))
    source = str(folder or find(name).hub_id)
    settings, commit = _settings(name, source, hub)
    places = {}
    for key, (word, usual) in FILE_NAMES.items():
        given = files.get(key)
        if given is not None and (not isinstance(given, str | Path) or Path(given).exists()):
            places[key] = given
        else:
            places[key] = _file(str(given or source), settings.get(word, usual), hub)[0]
    made = {}
    for key, part in chain.files.items():
        own = settings_of(name, settings) if key == "lm" else {}
        if isinstance(places[key], str | Path) and is_saved_model(places[key]):
            own = {}
        made[key] = load_original(part, places[key], **{**own, **configs.get(key, {})})
    made["text_tokenizer"] = load_sentencepiece(places["text_tokenizer"])
    check_parts(made["lm"], made["mimi"], len(made["text_tokenizer"]))
    return made, commit


def check_parts(model: Any, codec: AudioCodec, ids: int) -> None:
    """Refuse parts that do not fit each other.

    Raises:
        ValueError: other codebooks, or a vocabulary of more ids than the model knows.
    """
    config = model.config
    books = config.spoken_books or config.books
    if codec.num_codebooks != books or codec.codebook_size != config.card:
        raise ValueError(f"the model reads {books} codebooks of {config.card} codes, the codec has "
                         f"{codec.num_codebooks} of {codec.codebook_size}")
    if ids > config.text_card:
        raise ValueError(f"the vocabulary has {ids} ids, the model knows {config.text_card}; take the file that "
                         "config.json names")


def is_release(folder: str | Path, name: str) -> bool:
    """Whether the ``config.json`` of a folder is that of a registered model."""
    settings = settings_of(name, read_config(folder))
    return all(settings.get(key) == value for key, value in find(name).config.items())


def _settings(name: str, source: str, hub: Mapping[str, Any]) -> tuple[OfficialSettings, str | None]:
    """The official config of a release, and the commit of the hub."""
    if Path(source).is_dir():
        settings, commit = read_config(source), None
    else:
        path, commit = _file(source, "config.json", hub)
        settings = read_config(path.parent)
    if settings is None:
        raise ValueError(f"the folder {source} holds no config.json of {name}; take all files of the release")
    return settings, commit


def _file(source: str, file: str, hub: Mapping[str, Any]) -> tuple[Path, str | None]:
    """A file of a folder or of a hub repository, and the commit of the latter."""
    if not isinstance(file, str) or Path(file).name != file:
        raise ValueError(f"config.json names the file {file!r:.60}, which is no plain name of a file in {source}")
    if Path(source).is_dir():
        if not (Path(source) / file).is_file():
            raise ValueError(f"the folder {source} holds no {file}, which its config.json names")
        return Path(source) / file, None
    if source.count("/") != 1 or source.startswith((".", "/")):
        raise ValueError(f"no such folder, and no hub id: {source}")
    return download(source, file, hub.get("revision"), hub.get("cache_dir"), bool(hub.get("local_files_only")))
