"""How the contract tests call the generators of each family: condition, sampling, loss, shape of a row's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

OPTIONS = {"guidance_scale": 2.0, "temperature": 0.9, "num_inference_steps": 3}


@dataclass(frozen=True)
class Family:
    """One family; a condition is a tuple of tensors, the first of which has the rows on its first axis."""

    condition: Callable[..., tuple]
    loss: Callable[[Any, int], torch.Tensor]
    shape: Callable[[Any], tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    extra: Callable[[Any], dict[str, Any]] = lambda model: {}

    def generate(self, model, condition, noise, **options):
        return model.generate(*condition, noise=noise, **self.options, **self.extra(model), **options)


def take(condition, rows):
    """Rows of all tensors but those that have no row axis (the null caption)."""
    total = len(condition[0])
    return tuple(part[rows] if part.ndim > 1 or len(part) == total else part for part in condition)


def speech_condition(model, rows=8):
    """Texts of different lengths, most with a voice to continue."""
    config, generator = model.config, torch.Generator().manual_seed(2)
    texts = [torch.randint(config.vocab_size, (2 + row % 5,), generator=generator).tolist() for row in range(rows)]
    voices = [torch.randn(config.patch_size * (row % 3), config.token_dim, generator=generator) for row in range(rows)]
    return model.prepare(texts, [voice if len(voice) else None for voice in voices])


def speech_shape(model):
    return 3 * model.config.patch_size, model.config.token_dim


def speech_loss(model, rows):
    ids, _, _, _ = speech_condition(model, rows)
    audio = (torch.arange(ids.shape[1]) >= 4).expand(rows, -1)
    patches = torch.randn(*ids.shape, model.config.patch_size, model.config.token_dim) * audio[..., None, None]
    return model(ids, audio, patches, audio, torch.zeros_like(ids))


def feature_condition(model, rows=8):
    """Features of six frames, and of a shorter second recording."""
    shapes = ((rows, 6, model.config.feature_dim), (rows, 4, model.config.feature_dim))
    return tuple(torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) for shape in shapes)


def enhancement_loss(model, rows):
    codes = torch.randint(0, model.config.num_codes, (2, rows, 6))
    return model(*feature_condition(model, rows), codes=codes[0], other_codes=codes[1])


def token_speech_condition(model, rows=8):
    """Speech tokens, speakers, and a prompt of two tokens with their frames."""
    generator = torch.Generator().manual_seed(2)
    config = model.config

    def tokens(count):
        return torch.randint(0, config.vocab_size, (rows, count), generator=generator)

    speaker = torch.randn(rows, config.speaker_dim, generator=generator)
    frames = torch.randn(rows, model.frames(2), config.mel_dim, generator=generator)
    return tokens(SPEECH_TOKENS), speaker, tokens(2), frames


def token_speech_loss(model, rows):
    tokens, speaker, _, _ = token_speech_condition(model, rows)
    return model(tokens, torch.randn(rows, model.frames(SPEECH_TOKENS), model.config.mel_dim), speaker)


SPEECH_TOKENS = 7
def noisy_condition(model, rows=8):
    """Noise of six tokens and a half."""
    length = 6 * model.config.token_hop + model.config.token_hop // 2
    return (0.1 * torch.randn(rows, 1, length, generator=torch.Generator().manual_seed(2)),)


def filter_loss(model, rows):
    made, tokens = model(*noisy_condition(model, rows))
    return made.square().mean() + tokens.square().mean()


FAMILIES = {
    "CosyVoiceFlow": Family(token_speech_condition, token_speech_loss,
                            lambda model: (model.frames(SPEECH_TOKENS), model.config.mel_dim),
                            {"num_inference_steps": 2}),
    "VoxCPM": Family(speech_condition, speech_loss, speech_shape,
                     {"num_inference_steps": 3, "max_patches": 3, "min_patches": 3}),
    "LLaSEG1": Family(feature_condition, enhancement_loss, lambda model: (6,), {"temperature": 0.1}),
    "SpeechEnhancer": Family(noisy_condition, filter_loss, lambda model: (7, model.config.token_dim)),
}


def family_of(model) -> Family:
    """The family of a model; a new class of generators needs an entry in FAMILIES."""
    return FAMILIES[type(model).__name__]
