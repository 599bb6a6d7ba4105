"""Captions as what image generators read of a text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from photophone.generators.conditions import CaptionFeatures, CaptionStates
from photophone.text.clip import caption_ids, tower_states
from photophone.text.features import LANGUAGE_MODELS, encode_features, encode_with_language_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def read_captions(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, captions: list[str], length: int,
                  system_prompt: str | None = None) -> CaptionFeatures | CaptionStates:
    """Features of T5 or of a language model, or states of CLIP's text tower, by the kind of the encoder.

    Args:
        captions: B texts.
        length: places of a caption.
        system_prompt: of a language model, see :func:`photophone.text.features.encode_with_language_model`.

    Raises:
        ValueError: a caption of more tokens.
    """
    kind = encoder.config.model_type
    if kind in LANGUAGE_MODELS:
        return CaptionFeatures(*encode_with_language_model(tokenizer, encoder, captions, length, system_prompt))
    if kind.startswith("clip"):
        made = tower_states(encoder, caption_ids(tokenizer, [*captions, ""], length))
        return CaptionStates(made.states[:-1], made.pooled[:-1], made.states[-1], made.pooled[-1], made.final[:-1])
    return CaptionFeatures(*encode_features(tokenizer, encoder, captions, length))


def caption_sizes(encoder: PreTrainedModel, length: int) -> dict[str, int]:
    """Arguments of generators and tokenizers that read so many places of an encoder's captions."""
    kind = encoder.config.model_type
    if kind in LANGUAGE_MODELS:
        return {"context_dim": encoder.config.hidden_size, "context_length": length}
    if kind.startswith("clip"):
        return {"text_dim": encoder.config.hidden_size, "text_length": length}
    return {"caption_dim": encoder.config.d_model, "caption_length": length}
