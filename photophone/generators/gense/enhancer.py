"""GenSE as a whole: units, two language models and SimCodec.

Paper: arXiv 2502.02942. Origin: github.com/yaoxunji/gen-se, no licence stated. Differences: draws come from one seed
for every clip, so that a recording gives the same each time; an unfinished last hop is filled up by silence; and a clip
is cut into pieces that the positions of the second model were made for, where the official code lets those of longer
prompts and of what is generated be the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from photophone.codecs.simcodec.model import SimCodec
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.enhancement import ChainEnhancer
from photophone.generators.gense.condition import GenSESampler, NoisyUnits, TokenChain
from photophone.generators.gense.model import GenSEN2S, GenSES2S
from photophone.generators.gense.units import GenSEUnits
from photophone.layers.rows import fill_up

FADE_SECONDS = 0.02


class GenSEEnhancer(ChainEnhancer):
    """Recordings float (B, 1, T) at 16 kHz to clean ones.

    It is not trained as a whole. Its models see the whole piece, so pieces are not what the whole would be, and
    neighbours are blended.

    Args:
        units_config, n2s_config, s2s_config, codec_config: arguments of :class:`GenSEUnits`, :class:`GenSEN2S`,
            :class:`GenSES2S` and :class:`SimCodec`; None: the defaults.
        sample_rate: in Hz.
        temperature: of both models; 0 takes the likeliest.
        seed: of the draws for each clip.
        piece_seconds: a clip is enhanced in pieces of so much.
        context_seconds: of ``reach``.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(self, units_config: dict[str, Any] | None = None, n2s_config: dict[str, Any] | None = None,
                 s2s_config: dict[str, Any] | None = None, codec_config: dict[str, Any] | None = None,
                 sample_rate: int = 16000, temperature: float = 1.0, seed: int = 0, piece_seconds: float = 8.0,
                 context_seconds: float = 1.0) -> None:
        super().__init__()
        self.units, self.n2s = GenSEUnits(**(units_config or {})), GenSEN2S(**(n2s_config or {}))
        self.s2s, self.codec = GenSES2S(**(s2s_config or {})), SimCodec(**(codec_config or {}))
        if piece_seconds < FADE_SECONDS:
            raise ValueError(f"piece_seconds must be at least {FADE_SECONDS}, got {piece_seconds}")
        found = {"num_semantic": {self.units.config.num_units, self.n2s.config.num_semantic,
                                  self.s2s.config.num_semantic},
                 "num_codes": {self.codec.codebook_size, self.s2s.config.num_codes},
                 "num_codebooks": {self.codec.num_codebooks, 1}}
        for name, values in found.items():
            if len(values) > 1:
                raise ValueError(f"the parts must agree on {name}, they have {', '.join(map(str, sorted(values)))}")

    @classmethod
    def from_parts(cls, units: GenSEUnits, n2s: GenSEN2S, s2s: GenSES2S, codec: SimCodec,
                   **options: Any) -> GenSEEnhancer:
        """Of models that are there, without copies; ``options`` are those of the constructor."""
        return cls.join({"units": units, "n2s": n2s, "s2s": s2s, "codec": codec}, **options)

    @property
    def fade_seconds(self) -> float:
        """Over which neighbouring pieces are blended."""
        return FADE_SECONDS

    def _enhance(self, audio: Tensor) -> Tensor:
        size, fade = (round(seconds * self.sample_rate) for seconds in (self.config.piece_seconds, FADE_SECONDS))
        result = audio.new_zeros(audio.shape, dtype=torch.float32)
        rising = torch.linspace(0, 1, fade + 2, device=audio.device)[1:-1]
        for start in range(0, audio.shape[-1], size):
            piece = self._piece(audio[..., start:start + size + fade])
            last = start + piece.shape[-1] >= audio.shape[-1]
            if start:
                count = min(fade, piece.shape[-1])
                piece[..., :count] *= rising[:count]
            if not last:
                piece[..., -fade:] *= rising.flip(0)
            result[..., start:start + piece.shape[-1]] += piece
            if last:
                break
        return result

    def _piece(self, audio: Tensor) -> Tensor:
        """Clean speech float32 of the same shape."""
        rows, sampler = len(audio), GenSESampler(temperature=self.config.temperature)
        noise = SeededNoise.from_seeds([self.config.seed] * rows, self.device)
        noisy, codes = self.units(audio[:, 0]), self.codec.encode(audio).values
        clean = self.n2s.generate(NoisyUnits(noisy), noise=noise, sampler=sampler).values
        chain = TokenChain(noisy, None, clean, codes)
        made = self.s2s.generate(chain, noise=noise, sampler=sampler)
        return fill_up(self.codec.decode(Tokens(made.values)).float(), audio.shape[-1])
