"""Training of a small text encoder, for image systems that read captions through one, where CLIP or Qwen2 is too large.

Captions are matched with features of a frozen image network (locked-image tuning, arXiv 2111.07991). The encoder has
the classes and the files of the published ones, so that pipelines read it as they read theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional

from photophone.data.images import ImageDataset
from photophone.text.captions import vary_caption
from photophone.text.clip import caption_ids
from photophone.text.features import first_words
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task
from photophone.training.losses.feature_networks import FeatureNetwork, build_feature_network
from photophone.training.losses.image import contrastive_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, BEGIN, END = "<|endoftext|>", "<begin>", "<end>"
KINDS = ("clip", "qwen2")
LEAST_IDS = 260
"""Of a vocabulary: bytes and special tokens."""
FIRST_SCALE = 1 / 0.07
"""What cosines are multiplied by at the start, as CLIP's."""


def learn_vocabulary(texts: list[str], kind: str, size: int) -> PreTrainedTokenizerFast:
    """Pairs of bytes, as CLIP and Qwen have them.

    Args:
        texts: to learn from; those of a tower are read in lower case.
        kind: of the encoder. Captions of "clip" get a beginning and an end, which is the last id.
        size: ids, at least LEAST_IDS.
    """
    import transformers

    ends = [BEGIN, END] if kind == "clip" else []
    plain = transformers.Qwen2Tokenizer().backend_tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase() if ends else plain.normalizer
    tokenizer.pre_tokenizer = plain.pre_tokenizer
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size - len(ends), special_tokens=[PAD], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    options = {"pad_token": PAD, "unk_token": PAD, "padding_side": "right"}
    if not ends:  # transformers opens files beside a Qwen2 by this class, which makes the rest anew
        learned = json.loads(tokenizer.to_str())["model"]
        return transformers.Qwen2Tokenizer(learned["vocab"], [tuple(pair) for pair in learned["merges"]],
                                           eos_token=PAD, **options)
    tokenizer.add_special_tokens(ends)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=[
        (token, tokenizer.token_to_id(token)) for token in ends])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, **options)


def new_text_encoder(kind: str, vocabulary: PreTrainedTokenizerFast, width: int, depth: int, num_heads: int,
                     length: int) -> PreTrainedModel:
    """A network of transformers with random weights.

    Args:
        kind: "clip", the text tower, for TA-TiTok and MaskGen; or "qwen2", a language model, for HART.
        vocabulary: of :func:`learn_vocabulary`.
        width, depth, num_heads: of its blocks.
        length: places of a caption.

    Raises:
        ValueError: heads that do not divide the width.
    """
    import transformers

    if width % num_heads:
        raise ValueError(f"model: width must be a multiple of num_heads, got {width} and {num_heads}")
    sizes = {"vocab_size": len(vocabulary), "hidden_size": width, "intermediate_size": 4 * width,
             "num_hidden_layers": depth, "num_attention_heads": num_heads, "max_position_embeddings": length,
             "bos_token_id": vocabulary.bos_token_id, "eos_token_id": vocabulary.eos_token_id,
             "pad_token_id": vocabulary.pad_token_id}
    if kind == "clip":
        return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(projection_dim=width, **sizes))
    return transformers.Qwen2Model(transformers.Qwen2Config(num_key_value_heads=num_heads, **sizes))


class CaptionMatcher(nn.Module):
    """A text encoder and what compares its captions with features of images.

    Args:
        encoder: of :func:`new_text_encoder`.
        width: of its states.
        image_dim: of the features.
    """

    def __init__(self, encoder: PreTrainedModel, width: int, image_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.image_out, self.text_out = nn.Linear(image_dim, width), nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())

    def texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, C) of captions Long (B, T), whose words a mask, bool (B, T), tells from padding."""
        if self.encoder.config.model_type.startswith("clip"):
            return functional.normalize(self.text_out(self.encoder(input_ids=ids).text_embeds), dim=-1)
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        last = mask.sum(dim=1, keepdim=True).clamp(min=1) - 1
        return functional.normalize(self.text_out(states.take_along_dim(last[..., None], dim=1)[:, 0]), dim=-1)

    def images(self, features: Tensor) -> Tensor:
        """Unit vectors (B, C) of features (B, F)."""
        return functional.normalize(self.image_out(features), dim=-1)

    def forward(self, features: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The contrastive loss of B pairs."""
        return contrastive_loss(self.images(features), self.texts(ids, mask), self.log_scale.exp().clamp(max=100))


class TextEncoderTask(Task):
    """Captions to the images that they belong to.

    Args:
        model: what is trained.
        vocabulary: of the captions.
        length: places of a caption.
        data: training images; their features are computed once, at the start.
        validation: held-apart images, or None.
        network: the frozen network.
        keep: share of captions used as they stand, see :func:`photophone.text.captions.vary_caption`.
    """

    def __init__(self, model: CaptionMatcher, vocabulary: PreTrainedTokenizerFast, length: int, data: ImageDataset,
                 validation: ImageDataset | None, network: FeatureNetwork, keep: float = 0.6) -> None:
        self.model, self.vocabulary, self.length, self.keep = model, vocabulary, length, keep
        self.data, self.validation, self.num_examples = data, validation, len(data)
        self.features, self.held_apart = (None if part is None else pooled_features(network, part)
                                          for part in (data, validation))

    def read(self, captions: list[str]) -> dict[str, Tensor]:
        """Ids and mask of captions, padded to the length; longer ones are cut at a word."""
        texts = [first_words(self.vocabulary, text, self.length) for text in captions]
        counts = torch.tensor([len(row) for row in self.vocabulary(texts)["input_ids"]])
        return {"ids": caption_ids(self.vocabulary, texts, self.length),
                "mask": torch.arange(self.length) < counts[:, None]}

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        captions = [vary_caption(self.data.fields[index], rng, self.keep) for index in indices]
        return {"features": self.features[torch.from_numpy(np.asarray(indices))], **self.read(captions)}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return model(**batch), {}

    def validate(self, model: CaptionMatcher) -> dict[str, float]:
        """The loss, and the share of held-apart captions whose own image is the nearest of all."""
        if self.held_apart is None:
            return {}
        device, read = model.log_scale.device, self.read([fields["caption"] for fields in self.validation.fields])
        read = {name: part.to(device) for name, part in read.items()}
        features = self.held_apart.to(device)
        nearest = (model.texts(**read) @ model.images(features).T).argmax(dim=1)
        found = nearest == torch.arange(len(nearest), device=device)
        return {"validation_loss": float(model(features, **read)), "validation_found": float(found.float().mean())}

    def export(self, model: CaptionMatcher, folder: Path) -> None:
        model.encoder.save_pretrained(folder)
        self.vocabulary.save_pretrained(folder)


@torch.no_grad()
def pooled_features(network: FeatureNetwork, data: ImageDataset) -> Tensor:
    """The means of all maps of a network, side by side, (N, F), for all images."""
    parts = [data.batch(np.arange(start, min(start + 64, len(data)))) for start in range(0, len(data), 64)]
    return torch.cat([torch.cat([found.mean(dim=(2, 3)) for found in network(part)], dim=1) for part in parts])


def text_encoder_task(config: TrainConfig) -> TextEncoderTask:
    """The task of ``train_text_encoder.py``.

    ``model`` holds ``kind``, ``width``, ``depth``, ``num_heads``, ``vocab_size`` and ``length``; ``task`` may hold
    ``network`` (see :func:`photophone.training.losses.feature_networks.build_feature_network`) and ``keep``.

    Raises:
        ValueError, TypeError: settings that are missing, unknown or do not fit.
    """
    settings: dict[str, Any] = {"kind": "clip", "width": 128, "depth": 2, "num_heads": 2, "vocab_size": 1024,
                                "length": 24}
    if unknown := set(config.model) - set(settings):
        raise ValueError(f"model: unknown settings {sorted(unknown)}; known are {', '.join(settings)}")
    settings |= config.model
    options = dict(config.task)
    network = build_feature_network(options.pop("network", "efficientnet_lite0"))
    data = ImageDataset(config.data)
    validation = ImageDataset(config.validation) if config.validation else None
    size, length, kind = settings.pop("vocab_size"), settings["length"], settings["kind"]
    if kind not in KINDS or not isinstance(size, int) or size < LEAST_IDS:
        raise ValueError(f"model: kind must be one of {', '.join(KINDS)} and vocab_size at least {LEAST_IDS}, bytes "
                         f"and special tokens, got {kind!r} and {size!r}")
    texts = [text for fields in data.fields for text in (fields["caption"], fields["tags"]) if text]
    vocabulary = learn_vocabulary(texts, kind, size)
    encoder = new_text_encoder(vocabulary=vocabulary, **settings)
    with torch.no_grad():
        image_dim = sum(found.shape[1] for found in network(data.batch(np.arange(1))))
    return TextEncoderTask(CaptionMatcher(encoder, settings["width"], image_dim), vocabulary, length, data, validation,
                           network, **options)
