"""Captions as features of a T5 encoder (arXiv 1910.10683), as LlamaGen reads them. The encoder is transformers'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.text.captions import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5EncoderModel


def load_text_encoder(source: str | Path, **hub: Any) -> tuple[PreTrainedTokenizerBase, T5EncoderModel]:
    """Vocabulary and encoder, the latter from safetensors and in eval mode.

    Args:
        source: a folder or a hub id, such as "google/flan-t5-xl".
        hub: options of transformers' ``from_pretrained``.

    Raises:
        ValueError: files are missing or damaged.
    """
    from transformers import AutoTokenizer, T5EncoderModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **hub)
        encoder = T5EncoderModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32, **hub)
    except (OSError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the text encoder {source} cannot be loaded: {reason}") from error
    return tokenizer, encoder.eval()


def load_vocabulary(source: str | Path, **hub: Any) -> PreTrainedTokenizerBase:
    """A vocabulary of transformers alone; arguments and errors are those of :func:`load_text_encoder`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, **hub)
    except (OSError, ImportError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the vocabulary {source} cannot be loaded: {reason}") from error


@torch.no_grad()
def encode_features(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, captions: list[str],
                    length: int) -> tuple[Tensor, Tensor]:
    """Captions to features, padded on the left with zeros.

    Captions are lower-cased and their white space made single. The official preparation also takes out links, HTML,
    file names and advertising words, which nobody types; that is not repeated here.

    Args:
        captions: B texts.
        length: tokens L of the result.

    Returns:
        Features float (B, L, C) and their mask, bool (B, L).

    Raises:
        ValueError: a caption of more than L tokens.
    """
    texts = [" ".join(caption.lower().split()) for caption in captions]
    for caption, ids in zip(captions, tokenizer(texts)["input_ids"]):
        if len(ids) > length:
            raise ValueError(f"prompt {shorten(caption)!r} has {len(ids)} tokens, the model reads {length}; shorten it")
    batch = tokenizer(texts, padding="max_length", max_length=length, padding_side="right", return_tensors="pt")
    ids = batch["input_ids"].to(encoder.device)
    mask = batch["attention_mask"].to(encoder.device)
    features = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    order = mask.argsort(dim=1, stable=True)  # padding first, then the tokens in their order
    mask = mask.gather(1, order).bool()
    return features.gather(1, order[..., None].expand_as(features)) * mask[..., None], mask
