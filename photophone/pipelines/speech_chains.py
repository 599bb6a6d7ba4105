"""Components of published chains of several models that speak: CosyVoice 2 and 3, Spark-TTS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from photophone.codecs.speech_units import campplus
from photophone.loading.chains import read_config, settings_of
from photophone.loading.entry import Chain
from photophone.loading.hub import download
from photophone.loading.registry import find, load_original
from photophone.loading.saved import is_saved_model
from photophone.text.cosyvoice import load_cosyvoice_tokenizer
from photophone.text.voxcpm import load_tokenizer

QWEN_FOLDER, SPARK_FOLDER = "CosyVoice-BlankEN", "LLM"
"""Of the vocabularies in published folders."""
XLSR_FILE = "wav2vec2-large-xlsr-53/pytorch_model.bin"


def beside(name: str, folder: str | Path | None, file: str, hub: Mapping[str, Any]) -> Path:
    """A further file of a release.

    Args:
        name: of the registry.
        folder: the published folder or a hub id; None: the registry's.
        file: its path in the release.
        hub: revision, cache_dir and local_files_only.

    Raises:
        ValueError: there is none.
    """
    source = folder or find(name).hub_id
    if Path(source).is_dir():
        path = Path(source) / file
        if not path.is_file():
            raise ValueError(f"the folder {source} holds no {file}, which {name} needs")
        return path
    return download(str(source), file, hub.get("revision"), hub.get("cache_dir"),
                    bool(hub.get("local_files_only")))[0]


def vocabulary_place(name: str, folder: str | Path | None, subfolder: str, hub: Mapping[str, Any]) -> Path:
    """The folder of a vocabulary inside a release; from the hub its files are fetched one by one."""
    source = folder or find(name).hub_id
    if Path(source).is_dir():
        return Path(source) / subfolder
    from photophone.core.hub import snapshot

    files = [f"{subfolder}/{file}" for file in ("*.json", "*.txt")]
    return Path(snapshot(str(source), files, revision=hub.get("revision"), cache_dir=hub.get("cache_dir"),
                         local_files_only=bool(hub.get("local_files_only")))) / subfolder


def load_chain(name: str, chain: Chain, sources: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               given: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a chain.

    Args:
        name: of the generator in the registry.
        chain: its chain.
        sources: checkpoints by the names of the chain.
        folder: published folder or hub id, for further files.
        hub: revision, cache_dir and local_files_only.
        given: further files that the user named: ``text_tokenizer``, ``campplus``, ``wav2vec2``.
        configs: settings that replace those of the registry, by the names of the chain.

    Raises:
        ValueError: files that are missing or do not fit.
    """
    parts = chain.files

    def load(key: str, **options: Any) -> Any:
        return load_original(parts[key], sources[key], **{**options, **configs.get(key, {})})

    if find(name).family == "sparktts":
        place = given.get("text_tokenizer") or vocabulary_place(name, folder, SPARK_FOLDER, hub)
        settings = settings_of(name, read_config(place) if Path(place).is_dir() else None)
        codec = sources["bicodec"]
        whole = isinstance(codec, str | Path) and is_saved_model(codec)  # of ours, which holds wav2vec2
        more = {} if whole else {"wav2vec2": given.get("wav2vec2") or beside(name, folder, XLSR_FILE, hub)}
        return {"speech_generator": load("llm", **settings), "codec": load("bicodec", **more),
                "text_tokenizer": load_tokenizer(place, **hub)}
    third = not {**find(name).config, **configs.get("llm", {})}.get("own_specials", True)
    place = given.get("text_tokenizer") or vocabulary_place(name, folder, QWEN_FOLDER, hub)
    speaker = campplus.CAMPlusSpeaker(given.get("campplus") or beside(name, folder, campplus.FILE, hub))
    return {"speech_generator": load("llm"), "codec": load("hift"), "flow": load("flow"),
            "unit_tokenizer": load("units"), "speaker_encoder": speaker,
            "text_tokenizer": load_cosyvoice_tokenizer(place, third=third, **hub)}
