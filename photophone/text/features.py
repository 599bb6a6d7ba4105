"""Captions as features of text encoders: of T5 (arXiv 1910.10683) for LlamaGen and NAR, of a language model for HART.

The encoders are transformers'; for CLIP's see :mod:`photophone.text.clip`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.text.captions import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENCODERS = {"t5": "T5EncoderModel", "clip": "CLIPTextModelWithProjection",
            "clip_text_model": "CLIPTextModelWithProjection", "qwen2": "AutoModel", "qwen2_vl": "AutoModel"}
"""Kinds of text encoders by the ``model_type`` of their config, and transformers' class of each."""
LANGUAGE_MODELS = ("qwen2", "qwen2_vl")


def load_text_encoder(source: str | Path, **hub: Any) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Vocabulary and encoder, the latter from safetensors and in eval mode.

    Args:
        source: a folder or a hub id, such as "google/flan-t5-xl".
        hub: options of transformers' ``from_pretrained``.

    Raises:
        ValueError: files are missing or damaged, or of a kind that is not in ENCODERS.
    """
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **hub)
        kind = transformers.AutoConfig.from_pretrained(source, **hub).model_type
        if kind not in ENCODERS:
            raise ValueError(f"the text encoder {source} is a {kind}; these are read: {', '.join(ENCODERS)}")
        encoder = getattr(transformers, ENCODERS[kind]).from_pretrained(source, use_safetensors=True,
                                                                        dtype=torch.float32, **hub)
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


def first_words(tokenizer: PreTrainedTokenizerBase, caption: str, length: int) -> str:
    """The first words of a caption, as many as fit into so many tokens; at least one."""
    words = caption.split()
    while len(words) > 1 and len(tokenizer(" ".join(words).lower())["input_ids"]) > length:
        words.pop()
    return " ".join(words)


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


@torch.no_grad()
def encode_with_language_model(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, prompts: list[str],
                               length: int, system_prompt: str | None = None) -> tuple[Tensor, Tensor]:
    """Prompts to the last states of a language model at all places.

    Args:
        prompts: B texts.
        length: places L of the result; the vocabulary says on which side they are padded.
        system_prompt: text in front, whose states are left out again.

    Returns:
        States float (B, L, C), those of the padding included, and their mask, bool (B, L).

    Raises:
        ValueError: a prompt, or a text in front of it, of more than L tokens.
    """
    texts = prompts if system_prompt is None else [*prompts, system_prompt]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"]):
        if len(ids) > length:
            raise ValueError(f"prompt {shorten(text)!r} has {len(ids)} tokens, the model reads {length}; shorten it")
    batch = tokenizer(prompts, padding="max_length", max_length=length, return_tensors="pt")
    ids, mask = (batch[name].to(model.device) for name in ("input_ids", "attention_mask"))
    if system_prompt is None:
        return model(input_ids=ids, attention_mask=mask).last_hidden_state.float(), mask.bool()
    first = tokenizer([system_prompt], return_tensors="pt")["input_ids"].to(model.device).expand(len(prompts), -1)
    states = model(input_ids=torch.cat([first, ids], dim=1),
                   attention_mask=torch.cat([torch.ones_like(first), mask], dim=1)).last_hidden_state
    return states[:, first.shape[1]:].float(), mask.bool()
