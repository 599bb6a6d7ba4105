"""Quantizers: from encoder outputs (B, N, D) to discrete or continuous tokens and back.

All follow the contract of :class:`photophone.quantizers.base.Quantizer`.
"""

from __future__ import annotations

from photophone.quantizers.base import Quantizer, QuantizerOutput
from photophone.quantizers.bernoulli import BernoulliQuantizer
from photophone.quantizers.binary import BSQ, GFQ, LFQ
from photophone.quantizers.fsq import FSQ
from photophone.quantizers.gaussian import GaussianBottleneck, NoQuantizer
from photophone.quantizers.multi_codebook import MultiCodebookVQ
from photophone.quantizers.residual import ResidualVQ
from photophone.quantizers.soft import SoftVQ
from photophone.quantizers.vq import VectorQuantizer

QUANTIZERS: dict[str, type[Quantizer]] = {
    "vq": VectorQuantizer,
    "residual_vq": ResidualVQ,
    "multi_codebook_vq": MultiCodebookVQ,
    "fsq": FSQ,
    "lfq": LFQ,
    "bsq": BSQ,
    "gfq": GFQ,
    "bernoulli": BernoulliQuantizer,
    "soft_vq": SoftVQ,
    "gaussian": GaussianBottleneck,
    "none": NoQuantizer,
}
"""All quantizers by name; configs can name these and nothing else."""


def build_quantizer(name: str, **config) -> Quantizer:
    """Build a quantizer from its name in :data:`QUANTIZERS` and the arguments of its class.

    Raises:
        ValueError: when the name is unknown or the class refuses the settings.
        TypeError: when a setting has a name the class does not have.
    """
    if name not in QUANTIZERS:
        raise ValueError(f"unknown quantizer {name!r}; known are {', '.join(sorted(QUANTIZERS))}")
    return QUANTIZERS[name](**config)


__all__ = ["BSQ", "FSQ", "GFQ", "LFQ", "QUANTIZERS", "BernoulliQuantizer", "GaussianBottleneck", "MultiCodebookVQ",
           "NoQuantizer", "Quantizer", "QuantizerOutput", "ResidualVQ", "SoftVQ", "VectorQuantizer", "build_quantizer"]
