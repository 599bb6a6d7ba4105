"""Components of published chains of several models that speak: CosyVoice 1, 2 and 3, Spark-TTS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from photophone.codecs.speech_units import campplus, speakers
from photophone.loading.chains import read_config, settings_of
from photophone.loading.entry import Chain
from photophone.loading.hub import download
from photophone.loading.registry import find, load_original
from photophone.loading.saved import is_saved_model
from photophone.text.cosyvoice import load_cosyvoice_tokenizer
from photophone.text.voxcpm import load_tokenizer
from photophone.text.whisper_text import SUFFIX, load_whisper_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QWEN_FOLDER, SPARK_FOLDER = "CosyVoice-BlankEN", "LLM"
"""Of the vocabularies in published folders."""
XLSR_FILE = "wav2vec2-large-xlsr-53/pytorch_model.bin"


def beside(name: str, folder: str | Path | None, file: str, hub: Mapping[str, Any],
           optional: bool = False) -> Path | None:
    """A further file of a release.

    Args:
        name: of the registry.
        folder: the published folder or a hub id; None: the registry's.
        file: its path in the release.
        hub: revision, cache_dir and local_files_only.
        optional: not every release has one; then None.

    Raises:
        ValueError: there is none.
    """
    source = folder or find(name).hub_id
    if Path(source).is_dir():
        path = Path(source) / file
        if path.is_file():
            return path
        if optional:
            return None
        raise ValueError(f"the folder {source} holds no {file}, which {name} needs")
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return download(str(source), file, hub.get("revision"), hub.get("cache_dir"),
                        bool(hub.get("local_files_only")))[0]
    except ValueError as error:
        if optional and isinstance(error.__cause__, EntryNotFoundError):
            return None
        raise


def whisper_vocabulary(name: str, folder: str | Path | None, given: Mapping[str, Any], vocab_size: int,
                       hub: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The vocabulary of CosyVoice 1: the user's, that in the folder, or Whisper's from the hub.

    Raises:
        ValueError: there is none, or one of another model; names the way out.
    """
    source = given.get("text_tokenizer")
    if source is None and folder is not None and any(Path(folder).glob(f"*{SUFFIX}")):
        source = folder
    if source is not None:
        return load_whisper_tokenizer(source, vocab_size, **hub)
    source = find(name).chain.text_tokenizer
    if source is None:
        raise ValueError(f"the vocabulary of {name} is in no published folder; give text_tokenizer= the file "
                         "multilingual_zh_ja_yue_char_del.tiktoken of its authors' repository, in "
                         "cosyvoice/tokenizer/assets")
    elsewhere = {**hub, "revision": None}
    try:
        return load_whisper_tokenizer(source, vocab_size, **elsewhere)
    except ValueError as error:
        raise ValueError(f"{name} reads text with Whisper's vocabulary; give text_tokenizer= multilingual.tiktoken of "
                         f"openai-whisper, or a folder of whisper-large-v3 ({error})") from error


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
        given: further files that the user named: ``text_tokenizer``, ``campplus``, ``spk2info``, ``wav2vec2``.
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
    speaker = campplus.CAMPlusSpeaker(given.get("campplus") or beside(name, folder, campplus.FILE, hub))
    named = given.get("spk2info") or beside(name, folder, speakers.FILE, hub, optional=True)
    return {"text_tokenizer": cosyvoice_vocabulary(name, folder, given, configs.get("llm", {}), hub),
            "speakers": None if named is None else speakers.NamedSpeakers.from_original(named),
            "speaker_encoder": speaker, "speech_generator": load("llm"), "codec": load("hift"), "flow": load("flow"),
            "unit_tokenizer": load("units")}


def cosyvoice_vocabulary(name: str, folder: str | Path | None, given: Mapping[str, Any], config: Mapping[str, Any],
                         hub: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The vocabulary of a CosyVoice; ``config`` replaces settings of its language model, see :func:`load_chain`."""
    settings = {**find(name).config, **config}
    if "vocab_size" in find(name).config:  # of CosyVoice 1; that of 2 and 3 is Qwen2's
        return whisper_vocabulary(name, folder, given, settings["vocab_size"], hub)
    place = given.get("text_tokenizer") or vocabulary_place(name, folder, QWEN_FOLDER, hub)
    return load_cosyvoice_tokenizer(place, third=not settings.get("own_specials", True), **hub)
