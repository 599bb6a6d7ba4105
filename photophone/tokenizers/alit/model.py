"""ALIT: adaptive length image tokenization, 32, 64, ... 256 tokens by running one encoder again and again.

Paper: "Adaptive Length Image Tokenization via Recurrent Allocation" (arXiv 2411.02393). Official code:
ShivamDuggal4/adaptive-length-tokenizer, without a licence: this is an implementation of its own. Weights: none stated;
trained on ImageNet. It reads the features of another tokenizer, and draws in its latent space: those of MAGE's
MaskGIT-VQGAN or of MAR's KL autoencoder, which lie in the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.latent_vit import LatentDecoder, start_seeing
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.gaussian import NoQuantizer
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.alit.encoder import RecurrentEncoder
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.grid import GridTokenizer, to_grid, to_sequence
from photophone.tokenizers.kl_vae.model import KLVAE
from photophone.tokenizers.latent import grid_side
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN

SMALL = (1024, 8, 8)
VQGAN = {"channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "token_width": 256, "num_codes": 1024}
PASS_WEIGHTS = (2.5, 2.0, 1.5, 1.25)
"""Of the distillation loss of the first passes; all later ones count 1."""
BASE_KEY = r"^base_tokenizer\.\w+\."
KEYS = [
    (r"^encoder_ln_pre\.", "encoder.norm_in."), (r"^encoder_ln_post\.", "encoder.norm_out."),
    (r"^encoder_ln_recursive\.", "encoder.norm_again."), (r"^(encoder|decoder)_positional_embedding$", r"\1.positions"),
    (r"^(encoder|decoder)_class_embedding$", r"\1.class_token"), (r"^(encoder|decoder)_mask_token$", r"\1.mask_token"),
    (r"^latent_tokens$", "encoder.latent_tokens"),
    (r"^latent_token_positional_embedding$", "encoder.latent_positions"), (r"^timestep_embedding$", "encoder.times"),
    (r"^(encoder|decoder)\.transformer\.", r"\1.blocks."), (r"^pre_quantizer_mlp\.", "to_latent."),
    (r"^decoder\.decoder_embed\.", "from_latent."), (r"^decoder\.ln_pre\.", "decoder.norm_in."),
    (r"^decoder\.ln_post\.", "decoder.norm_out."), (r"^decoder\.ffn\.", "to_cells."),
    (r"^decoder\.latent_token_positional_embedding$", "decoder.latent_positions"),
    (r"^quantize\.embedding\.weight$", "bottleneck.codebook"),
]
"""Patterns of official keys and what stands for them here."""


@dataclass(frozen=True)
class EncoderPass:
    """What one pass of the encoder made of B images.

    Args:
        states: (B, n, W), the latents behind the blocks.
        hidden: (B, n, D), what the bottleneck reads of them.
        truth: what the decoder should draw in the other tokenizer's space: its codes Long (B, hw), or its latents
            float (B, hw, C).
    """

    states: Tensor
    hidden: Tensor
    truth: Tensor


class ALIT(OriginalCheckpoint, ImageTokenizer):
    """Images to up to N tokens; fewer are the tokens of fewer passes, and not the first ones of more.

    ``encode`` takes ``num_tokens``, a multiple of ``pass_tokens``, or ``threshold``, the mean error of pixels in
    [0, 1] that an image's tokens may have: each image gets as few as reach it, or its best ones, and ``lengths`` of the
    tokens say how many. With ``drawn`` and a noise the other tokenizer's latents and the cells that rest are drawn, as
    the official code always does; else they are the likeliest.

    Args:
        image_size, patch: pixels per side, and of a cell.
        base: "vqgan" or "kl": the other tokenizer, :class:`MaskGITVQGAN` or :class:`KLVAE`.
        base_config: its sizes, without the image's.
        encoder_size, decoder_size: width, blocks and heads.
        pass_tokens: tokens that each pass adds.
        iterations: passes.
        token_width: width of a token; None: that of the encoder.
        num_codes: codes in the codebook; None for continuous tokens.
        l2_norm, commitment: see :class:`photophone.quantizers.vq.VectorQuantizer`.
        halting_threshold: with "vqgan" cells rest, behind mask tokens, once they are drawn right with at least this
            probability; None: none ever rests. (The official code for "kl" means to let cells rest and does not.)
        decoder_tokens: positions of tokens in the decoder.

    Raises:
        ValueError: for settings that do not fit each other.
    """

    ENCODER_PARTS = ("encoder", "patch_embed", "to_latent", "bottleneck", "base.encoder", "base.to_latent",
                     "base.bottleneck")
    LAST_LAYER = "base.decoder.conv_out"
    CONTAINERS = ("ema",)
    DROPPED_KEYS = ("gan_losses.*",)  # of the training
    encode_options = ("num_tokens", "threshold", "drawn")

    def __init__(self, image_size: int = 256, patch: int = 16, base: str = "vqgan",
                 base_config: dict[str, Any] = VQGAN, encoder_size: Sequence[int] = SMALL,
                 decoder_size: Sequence[int] = SMALL, pass_tokens: int = 32, iterations: int = 8,
                 token_width: int | None = 12, num_codes: int | None = 4096, l2_norm: bool = True,
                 commitment: float = 0.25, halting_threshold: float | None = 0.55, decoder_tokens: int = 256) -> None:
        super().__init__()
        grid = grid_side(image_size, patch)
        self.base = build_base(base, image_size, base_config)
        if self.base.grid_size != grid:
            raise ValueError(f"the other tokenizer has {self.base.grid_size} cells a side, patches of {patch} make "
                             f"{grid}")
        cell, width = base_width(self.base), encoder_size[0]
        if width <= cell or pass_tokens * iterations > decoder_tokens:
            raise ValueError(f"the encoder must be wider than {cell}, got {width}, and decoder_tokens at least "
                             f"{pass_tokens * iterations}, got {decoder_tokens}")
        self.patch_embed = nn.Conv2d(3, width - cell, patch, stride=patch)
        self.encoder = RecurrentEncoder(*encoder_size, grid=grid, num_latents=pass_tokens, iterations=iterations,
                                        feed_forward="gelu")
        token = width if token_width is None else token_width
        self.to_latent = nn.Identity() if token_width is None else nn.Linear(width, token)
        self.bottleneck = NoQuantizer(token) if num_codes is None else \
            VectorQuantizer(token, num_codes, l2_norm=l2_norm, beta=commitment)
        self.from_latent = nn.Linear(token, decoder_size[0])
        self.decoder = LatentDecoder(*decoder_size, grid=grid, num_latents=decoder_tokens, norm_in=True,
                                     feed_forward="gelu")
        out = cell if base == "kl" else self.base.bottleneck.codebook_size
        self.to_cells = nn.Sequential(nn.Linear(decoder_size[0], 2 * decoder_size[0]), nn.Tanh(),
                                      nn.Linear(2 * decoder_size[0], out))
        start_seeing(self.encoder, self.decoder)
        if base == "vqgan":  # ours: a mean of small codes is a constant map, of which norms make noise
            nn.init.normal_(self.base.bottleneck.codebook)

    @property
    def num_tokens(self) -> int:
        return self.config.pass_tokens * self.config.iterations

    @property
    def token_counts(self) -> tuple[int, ...]:
        return tuple(self.config.pass_tokens * (step + 1) for step in range(self.config.iterations))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; those of the other tokenizer by its own rules."""
        inner = rename_keys({key: value for key, value in state.items() if key.startswith("base_tokenizer.")},
                            [(BASE_KEY, "")])
        inner = GridTokenizer.convert_state_dict(inner)
        if not any(".mid.1." in key for key in inner):
            inner = rename_keys(inner, [(r"\bmid\.2\.", "mid.1.")])  # no attention between the two blocks
        rest = {key: value for key, value in state.items() if not key.startswith("base_tokenizer.")}
        rest = drop_leading_axes(rest, ("encoder_mask_token", "decoder_mask_token"))
        return {**rename_keys(convert_vit_keys(rest), KEYS), **{f"base.{key}": value for key, value in inner.items()}}

    # encoding ---------------------------------------------------------------------------------------------------

    def cells(self, images: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Cells (B, hw, W) that the encoder reads, unit vectors, and :attr:`EncoderPass.truth`."""
        pixels = (images + 1) / 2  # both tokenizers are fed [0, 1]
        if self.config.base == "vqgan":
            features = to_sequence(self.base.encode_grid(images))  # maps to [0, 1] itself
            truth = self.base.bottleneck.encode(features)
        else:
            moments = to_sequence(self.base.encode_grid(pixels))
            draws = self.base.bottleneck(moments, noise=noise).values if noise is not None else \
                self.base.bottleneck.encode(moments)
            features = truth = draws.to(moments) * self.base.config.scaling
        patches = to_sequence(self.patch_embed(pixels))
        return F.normalize(torch.cat([features, patches], dim=-1), dim=-1), truth

    def passes(self, images: Tensor, noise: Noise | None = None, steps: int | None = None) -> Iterator[EncoderPass]:
        """The passes of the encoder over images (B, 3, H, W) in [-1, 1].

        Args:
            noise: see the class; a draw of the latents (B, hw, C) with "kl", or with "vqgan" one of the resting cells
                (B, hw) between two passes.
            steps: passes; None: all.
        """
        cells, truth = self.cells(images, noise)
        x, steps = self.encoder.begin(cells), steps or self.config.iterations
        for step in range(steps):
            x = self.encoder.advance(x)
            states = self.encoder.latents_of(x)
            hidden = self.to_latent(self.encoder.norm_out(states))
            yield EncoderPass(states, hidden, truth)
            if step + 1 < steps:
                if self.config.base == "vqgan" and self.config.halting_threshold is not None:
                    x = self.encoder.hide(x, self.resting(hidden, truth, noise))
                x = self.encoder.grow(x, step + 1)

    @torch.no_grad()
    def resting(self, hidden: Tensor, truth: Tensor, noise: Noise | None) -> Tensor:
        """Bool (B, hw), True for cells that the tokens so far draw well enough."""
        values = self.bottleneck.decode(self.bottleneck.encode(hidden)).to(hidden)
        right = self.draw_cells(values).float().softmax(dim=-1).gather(-1, truth[..., None])[..., 0]
        rest = right > 0.5 if noise is None else noise.uniform(*right.shape).to(right.device) < right
        return rest & (right >= self.config.halting_threshold)

    def latents(self, images: Tensor) -> Tensor:
        """What the bottleneck reads behind the last pass, (B, N, D)."""
        return list(self.passes(images))[-1].hidden

    def _encode(self, images: Tensor, noise: Noise | None, num_tokens: int | None = None,
                threshold: float | None = None, drawn: bool = False) -> Tokens:
        noise = noise if drawn else None
        if threshold is not None:
            return self.shortest(images, threshold, noise)
        steps = self.steps_of(self.num_tokens if num_tokens is None else num_tokens)
        return Tokens(self.bottleneck.encode(list(self.passes(images, noise, steps))[-1].hidden))

    def steps_of(self, num_tokens: int) -> int:
        """Passes that make so many tokens.

        Raises:
            ValueError: no multiple of ``pass_tokens`` up to all tokens.
        """
        steps, rest = divmod(num_tokens, self.config.pass_tokens)
        if rest or not 1 <= steps <= self.config.iterations:
            raise ValueError(f"num_tokens must be a multiple of {self.config.pass_tokens} up to {self.num_tokens}, got "
                             f"{num_tokens}")
        return steps

    def shortest(self, images: Tensor, threshold: float, noise: Noise | None = None) -> Tokens:
        """The fewest tokens of each image whose mean error of pixels in [0, 1] is below a threshold, else its best.

        (The official code compares the mean error of a batch, and gives all its images as many tokens.)
        """
        made = [self.bottleneck.encode(step.hidden) for step in self.passes(images, noise)]
        errors = torch.stack([self.error(values, images) for values in made], dim=1)  # (B, passes)
        reached = errors < threshold
        steps = torch.where(reached.any(dim=1), reached.long().argmax(dim=1), errors.argmin(dim=1))  # (B,)
        lengths = (steps + 1) * self.config.pass_tokens
        values = made[int(steps.max())].clone()
        for row, step in enumerate(steps.tolist()):
            count = made[step].shape[1]
            values[row, :count] = made[step][row]
            values[row, count:] = 0
        return Tokens(values, lengths.to(values.device))

    def error(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Mean error (B,) of pixels in [0, 1] of what tokens, all of one length, draw."""
        drawn = self.reconstruct(self.bottleneck.decode(tokens).to(self.dtype))
        return (drawn - images).abs().mean(dim=(1, 2, 3)) / 2

    # decoding ---------------------------------------------------------------------------------------------------

    def draw_cells(self, values: Tensor) -> Tensor:
        """Values of the bottleneck (B, n, D) to logits (B, hw, K) of the other tokenizer's codes, or its latents."""
        return self.to_cells(self.decoder(self.from_latent(values)))

    def expected_codes(self, cells: Tensor) -> Tensor:
        """Output of :meth:`draw_cells` as vectors (B, hw, C): the mean code of logits."""
        if self.config.base == "kl":
            return cells
        return cells.softmax(dim=-1) @ self.base.bottleneck.codebook.to(cells)

    def cell_pixels(self, vectors: Tensor) -> Tensor:
        """Vectors (B, hw, C) of the other tokenizer to images (B, 3, H, W), not clamped."""
        side = self.decoder.grid
        images = self.base.decode_grid(to_grid(vectors, (side, side)))
        return images if self.config.base == "vqgan" else images * 2 - 1

    def reconstruct(self, values: Tensor) -> Tensor:
        return self.cell_pixels(self.expected_codes(self.draw_cells(values)))

    def check_tokens(self, tokens: Tokens) -> None:
        self.token_format.check(tokens, None, f"this {type(self).__name__}")
        part, kind = self.config.pass_tokens, "float" if tokens.is_continuous else "Long"
        counts = {tokens.num_tokens} if tokens.lengths is None else {tokens.num_tokens, *tokens.lengths.tolist()}
        if any(count % part or not 1 <= count // part <= self.config.iterations for count in counts):
            raise ValueError(f"this {type(self).__name__} decodes {kind} tokens of a number that is a multiple of "
                             f"{part} up to {self.num_tokens}, got {sorted(counts)}")

    def _decode(self, tokens: Tokens) -> Tensor:
        """Rows of one length are drawn together."""
        if tokens.lengths is None:
            return self.reconstruct(self.bottleneck.decode(tokens.values).to(self.dtype))
        size = self.image_size
        images = torch.empty(len(tokens), 3, size, size, device=self.device, dtype=self.dtype)
        for length in tokens.lengths.unique().tolist():
            rows = tokens.lengths == length
            values = tokens.values[rows][:, :length]
            images[rows] = self.reconstruct(self.bottleneck.decode(values).to(self.dtype))
        return images

    # training ---------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of images (B, 3, H, W) in [-1, 1] through the tokens of a random number of passes; all of
        them in eval mode."""
        steps = self.config.iterations
        if self.training:
            noise = noise or GlobalNoise(images.device)
            steps = 1 + int(noise.integers(0, steps, len(images))[0])
        last = list(self.passes(images, noise if self.training else None, steps))[-1]
        output = self.bottleneck(last.hidden)
        idle = [self.encoder.mask_token, *(self.encoder.norm_again.parameters() if steps == 1 else ())]
        loss = output.loss + sum(0 * weight.sum() for weight in idle)  # processes that train together must agree
        return Reconstruction(self.reconstruct(output.values), loss, output.metrics, output.values)

    def distillation(self, images: Tensor, noise: Noise | None = None) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """The loss of the first stage, in which the other tokenizer teaches and rests: its sum over all passes, and
        the parts of each: ``quantizer``, ``code`` (squared error) and with "vqgan" ``nll`` in nats."""
        total, parts = torch.zeros((), device=images.device), []
        for step, made in enumerate(self.passes(images, noise)):
            output = self.bottleneck(made.hidden)
            cells = self.draw_cells(output.values)
            weight = PASS_WEIGHTS[step] if step < len(PASS_WEIGHTS) else 1.0
            part = {"quantizer": output.loss}
            if self.config.base == "vqgan":
                wanted = F.embedding(made.truth, self.base.bottleneck.codebook)
                part["nll"] = F.cross_entropy(cells.flatten(0, 1), made.truth.flatten())
                part["code"] = F.mse_loss(self.expected_codes(cells), wanted.detach())
                total = total + weight * part["nll"] + part["code"] + output.loss
            else:
                part["code"] = F.mse_loss(cells, made.truth.detach())
                total = total + weight * part["code"] + output.loss
            parts.append(part)
        return total, parts


def build_base(base: str, image_size: int, config: dict[str, Any]) -> MaskGITVQGAN | KLVAE:
    """The other tokenizer.

    Raises:
        ValueError: an unknown name.
    """
    if base == "vqgan":
        return MaskGITVQGAN(image_size=image_size, **{"mid_blocks": 2, **config})
    if base == "kl":
        return KLVAE(image_size=image_size, **config)
    raise ValueError(f"base must be 'vqgan' or 'kl', got {base!r}")


def base_width(base: MaskGITVQGAN | KLVAE) -> int:
    """Channels of the features that the encoder reads."""
    return base.bottleneck.token_dim or base.bottleneck.dim
