"""Fixed inputs of models, the same everywhere: a stretch of the bundled recording, a drawn picture, drawn tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.core.model import Model
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.data.audio import read_audio
from photophone.data.resampling import resample_audio
from photophone.evaluation.metrics.audio import PESQ_RATE, mel_distance, pesq_wb, si_sdr, stoi
from photophone.evaluation.metrics.image import psnr, ssim
from photophone.generators.base import Generator
from photophone.generators.enhancement import Enhancer
from photophone.loading.registry import PRETRAINED
from photophone.tokenizers.base import ImageTokenizer

NOISY = PRETRAINED / "tiny-enhance" / "noisy.flac"
SECONDS = 2.0
START = 1.0
"""Of the bundled recording, where its speech has begun."""
SEED = 0


def recording(sample_rate: int) -> Tensor:
    """``SECONDS`` of the bundled recording, float (1, 1, T)."""
    audio, rate = read_audio(NOISY, sample_rate)
    first = round(START * rate)
    return torch.from_numpy(audio)[None, None, first:first + round(SECONDS * rate)]


def picture(size: int) -> Tensor:
    """A drawn picture (1, 3, size, size) in [-1, 1]: colours that change slowly, two discs and stripes."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    x, y = places[None, :], places[:, None]
    image = torch.stack([x + 0 * y, y + 0 * x, (1 - x) * (1 - y)])
    for row, column, radius, colour in ((0.35, 0.3, 0.18, (0.9, 0.2, 0.1)), (0.6, 0.68, 0.22, (0.1, 0.5, 0.9))):
        distance = ((y - row).square() + (x - column).square()).sqrt()
        share = ((radius - distance) * 64).clamp(0, 1)  # a soft edge
        image = image * (1 - share) + torch.tensor(colour, dtype=torch.float64)[:, None, None] * share
    stripes = 0.5 + 0.5 * torch.sin(2 * math.pi * 12 * (x + y))
    image[:, int(0.8 * size):] = stripes[int(0.8 * size):]
    return (2 * image - 1).clamp(-1, 1).float()[None]


def statistics(values: Tensor) -> dict[str, Any]:
    """Shape, and mean, deviation and range of the numbers."""
    numbers = values.double()
    return {"shape": list(values.shape), "mean": float(numbers.mean()),
            "deviation": float(numbers.std(correction=0)), "least": float(numbers.min()),
            "largest": float(numbers.max())}


def told_tokens(tokens: Tokens, codebook_size: int | None) -> dict[str, Any]:
    """Statistics of tokens; of codes how many different ones there are."""
    facts = statistics(tokens.values)
    if codebook_size is not None:
        facts |= {"codebook_size": codebook_size, "different_codes": int(tokens.values.unique().numel())}
    return facts


def probe_codec(model: AudioCodec) -> dict[str, Any]:
    """The bundled recording to tokens and back."""
    audio = recording(model.sample_rate)
    tokens = model.encode(audio)
    facts = {"input": f"{SECONDS:g} s of the bundled recording at {model.sample_rate} Hz",
             "tokens": told_tokens(tokens, model.codebook_size)}
    try:
        made = model.decode(tokens).cpu()
    except ValueError as error:  # a model that only reads speech
        return {**facts, "no_quality": str(error)}
    facts["output"] = statistics(made)
    if not made.isfinite().all():
        return facts
    quality, missing = sound_quality(audio[0, 0], made[0, 0], model)
    return {**facts, "quality": quality, "missing": missing}


def sound_quality(audio: Tensor, made: Tensor, model: AudioCodec) -> tuple[dict[str, float], dict[str, str]]:
    """Measures of a decoded recording against the recording, and why others were not taken."""
    rate = model.output_sample_rate
    reference = audio.numpy() if rate == model.sample_rate else recording(rate)[0, 0].numpy()
    size = min(len(reference), len(made))
    pair = reference[:size], made[:size].double().numpy()
    error = torch.from_numpy(pair[0] - pair[1]).square().sum()
    power = torch.from_numpy(pair[0]).double().square().sum()
    quality = {"snr": float(10 * torch.log10(power / error)), "si_sdr": si_sdr(*pair),
               "mel_distance": mel_distance(*pair, rate),
               "mel_distance_of_silence": mel_distance(pair[0], np.zeros_like(pair[0]), rate)}
    narrow = [resample_audio(torch.from_numpy(signal).float(), rate, PESQ_RATE).numpy() for signal in pair]
    more: dict[str, Callable[[], float]] = {"stoi": lambda: stoi(*pair, rate), "pesq": lambda: pesq_wb(*narrow)}
    missing = {}
    for name, measure in more.items():
        try:
            quality[name] = measure()
        except (ImportError, ValueError) as error:
            missing[name] = str(error)
    return {name: value for name, value in quality.items() if math.isfinite(value)}, missing


def probe_image_tokenizer(model: ImageTokenizer) -> dict[str, Any]:
    """The drawn picture to tokens and back."""
    image = picture(model.image_size)
    tokens = model.encode(image)
    made = model.decode(tokens).cpu().float()
    flat = image.mean(dim=(2, 3), keepdim=True).expand_as(image)
    quality = {"psnr": float(psnr(image, made)), "psnr_of_its_mean_colour": float(psnr(image, flat)),
               "ssim": float(ssim(image, made))} if min(image.shape[-2:]) >= 11 else {"psnr": float(psnr(image, made))}
    return {"input": f"a drawn picture of {model.image_size}x{model.image_size} pixels",
            "tokens": told_tokens(tokens, model.codebook_size), "output": statistics(made), "quality": quality}


def probe_generator(model: Generator) -> dict[str, Any]:
    """The training loss of drawn tokens under a drawn condition: one number that equal weights have in common."""
    condition, tokens = model.example_condition(2, SEED), model.example_tokens(2, SEED)
    facts: dict[str, Any] = {"input": f"two conditions and token sequences drawn with seed {SEED}"}
    try:
        noise = SeededNoise.from_seeds([SEED, SEED + 1])
        loss = model.loss(tokens.to(model.device), condition.to(model.device), noise=noise).loss
    except ValueError as error:  # a family without a training pass
        return {**facts, "no_output": str(error)}
    return {**facts, "output": {"loss": float(loss)}}


def probe_enhancer(model: Enhancer) -> dict[str, Any]:
    """The bundled recording made clean."""
    made = model.enhance(recording(model.sample_rate)).cpu()
    return {"input": f"{SECONDS:g} s of the bundled recording at {model.sample_rate} Hz", "output": statistics(made)}


def probe_features(model: Model) -> dict[str, Any]:
    """Units of the drawn picture, for a model that reads pictures; others read several inputs at a time."""
    if not hasattr(model, "image_size") or not hasattr(model, "encode"):
        return {"no_output": "it reads several inputs that belong together, of which none is bundled"}
    tokens = model.encode(picture(model.image_size))
    return {"input": f"a drawn picture of {model.image_size}x{model.image_size} pixels",
            "tokens": told_tokens(tokens, model.codebook_size)}


PROBES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "codec": probe_codec, "image_tokenizer": probe_image_tokenizer, "generator": probe_generator,
    "enhancer": probe_enhancer, "features": probe_features}
"""What runs a model, by the kind of its entry."""
