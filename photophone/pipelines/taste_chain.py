"""Parts of a released TASTE: one file of weights for three models, the sound of CosyVoice 1, two vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from photophone.codecs.speech_units.campplus import FILE as VOICE_NETWORK
from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
from photophone.loading.chains import find_sources, read_config, settings_of
from photophone.loading.checkpoints import read_state
from photophone.loading.entry import Chain
from photophone.loading.registry import find, load_original
from photophone.pipelines.cosyvoice_front import whisper_vocabulary
from photophone.pipelines.speech_chains import beside, vocabulary_place
from photophone.text.voxcpm import load_tokenizer

if TYPE_CHECKING:
    from photophone.loading.checkpoints import State

OTHERS = ("text_tokenizer", "word_tokenizer", "campplus", "voice_generator")
"""Further files that are taken."""
SOUND_FILE, SPEAKER_FILE = "cosyvoice/voice_generator.pth", "cosyvoice/speaker_embed.onnx"
"""Where the authors' folder has flow and vocoder of CosyVoice 1, in one file, and the network for speakers."""
VOCABULARY_FOLDER = "llama_tokenizer"
SOUND = ("flow", "hift")


def load_taste(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.SpokenContinuationPipeline` for a release, see
    :func:`photophone.pipelines.phonon_front.load_parts`.

    The sizes of tower and language model are those of its ``config.json``, where there is one.
    """
    given = dict(files)
    for key in OTHERS:
        given.pop(key, None)
    given |= {key: part for key, part in _sound(name, files, folder, hub).items() if given.get(key) is None}
    sources, commit = find_sources(chain, given, folder, **hub)
    config = beside(name, folder, "config.json", hub, optional=True)
    official = None if config is None else read_config(config.parent)
    made = {}
    for key, entry in chain.files.items():
        own = settings_of(entry, official) if key in ("model", "tower") else {}
        made[key] = load_original(entry, sources[key], **{**own, **configs.get(key, {})})
    text = files.get("text_tokenizer") or vocabulary_place(name, folder, VOCABULARY_FOLDER, hub)
    words = whisper_vocabulary(name, folder, files, made["unit_decoder"].config.vocab_size, hub, "word_tokenizer")
    network = files.get("campplus") or beside(name, folder, SPEAKER_FILE, hub, optional=True) or \
        beside(name, folder, VOICE_NETWORK, hub)
    return {"spoken_lm": made["model"], "tower": made["tower"], "unit_decoder": made["unit_decoder"],
            "flow": made["flow"], "vocoder": made["hift"], "text_tokenizer": load_tokenizer(text, **hub),
            "word_tokenizer": words, "speaker_encoder": CAMPlusSpeaker(network)}, commit


def _sound(name: str, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any]
           ) -> dict[str, State]:
    """Weights of flow and vocoder from the file that holds both; none where both are given, or there is no such file.

    Raises:
        ValueError: it holds something else.
    """
    if all(files.get(key) is not None for key in SOUND):
        return {}
    file = files.get("voice_generator") or beside(name, folder, SOUND_FILE, hub, optional=True)
    if file is None:  # the folder may hold CosyVoice's own files
        return {}
    state = read_state(file)
    parts = {key: {word.removeprefix(f"{key}."): value for word, value in state.items() if word.startswith(f"{key}.")}
             for key in SOUND}
    if sum(map(len, parts.values())) != len(state) or not all(parts.values()):
        raise ValueError(f"{file} does not hold the flow and the vocoder of CosyVoice 1, as the voice_generator.pth of "
                         f"{find(name).hub_id} does")
    return parts
