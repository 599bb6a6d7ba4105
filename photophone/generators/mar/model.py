"""MAR: masked autoregression over continuous tokens, each drawn by a small diffusion model.

Paper: arXiv 2406.11838. Official code: LTH14/mar, MIT. Weights: under the licence of the code, none stated apart;
trained on ImageNet. The tokens are those of :class:`photophone.tokenizers.kl_vae.model.KLVAE` ("mar-kl16").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.continuous import decode_values, guidance_progress
from photophone.decoding.loop import Callback, cosine_reveal_counts
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_values
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import (
    GuidedSampler,
    option,
    order_steps_option,
    steps_option,
    temperature_option,
)
from photophone.heads import DiffusionHead
from photophone.heads.base import is_guided
from photophone.layers.normal import truncated_normal
from photophone.layers.transformer import TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^class_emb\.", "class_embedding."), (r"^fake_latent$", "null_embedding"),
        (r"^z_proj\.", "token_in."), (r"^z_proj_ln\.", "token_norm."), (r"^decoder_embed\.", "decoder_in."),
        (r"^encoder_pos_embed_learned$", "encoder_position"), (r"^decoder_pos_embed_learned$", "decoder_position"),
        (r"^diffusion_pos_embed_learned$", "head_position"), (r"^diffloss\.", "diffusion_head.")]
MASK_RATIO_STD = 0.25


@dataclass(frozen=True)
class MARSampler(GuidedSampler):
    """Options of :class:`MAR`.

    Published: 256 steps of the order, 100 of the head, linear guidance 2.9 (base), 3.0 (large) or 3.2 (huge). Linear
    guidance rises with the share of known tokens.
    """

    num_order_steps: int | None = order_steps_option(None, "steps of the masked order; none given: a quarter of the "
                                                           "tokens")
    num_inference_steps: int | None = steps_option(None, "diffusion steps of the head for each token; none given: "
                                                         "those of the config")
    head_sampler: str = option("ddpm", "which of the training's steps the head takes: spread evenly, or with the whole "
                                       "stride of DDIM, for numbers of steps that have one", choices=("ddpm", "ddim"))
    temperature: float = temperature_option()


class MAR(OriginalCheckpoint, ClassGenerator):
    """Classes to continuous tokens (B, N, D), masked and in random order.

    An encoder reads the known tokens, a decoder puts mask tokens in the place of the others, and the head draws
    tokens from the decoder's states. "Buffer" tokens in front carry the class through both.

    Args:
        num_tokens, token_dim: N and D, of the tokenizer's patches.
        num_classes: classes; guidance uses a learned null class.
        encoder_width, encoder_depth, encoder_heads: sizes of the encoder.
        decoder_width, decoder_depth, decoder_heads: sizes of the decoder.
        mlp_ratio: hidden width of the feed-forwards over their width.
        buffer_size: class tokens in front.
        eps: of the layer normalisations.
        head_width, head_depth: of the diffusion MLP.
        respacing: solver steps of the head; see :func:`photophone.layers.gaussian_diffusion.space_timesteps`.
        diffusion_batch_mul: diffusion steps drawn for each token in training.
        mask_ratio_min: least share of masked tokens in training.
        label_drop: share of training labels replaced by the null class.
    """

    Sampler = MARSampler
    BACKBONE = "decoder_blocks.0"
    CONTAINERS = ("model_ema", "model")

    def __init__(self, num_tokens: int = 256, token_dim: int = 16, num_classes: int = 1000, encoder_width: int = 768,
                 encoder_depth: int = 12, encoder_heads: int = 12, decoder_width: int = 768, decoder_depth: int = 12,
                 decoder_heads: int = 12, mlp_ratio: float = 4.0, buffer_size: int = 64, eps: float = 1e-6,
                 head_width: int = 1024, head_depth: int = 6, respacing: str = "100", diffusion_batch_mul: int = 4,
                 mask_ratio_min: float = 0.7, label_drop: float = 0.1) -> None:
        super().__init__()
        if not 0 <= mask_ratio_min < 1:
            raise ValueError(f"mask_ratio_min must lie in [0, 1), got {mask_ratio_min}")
        total, options = buffer_size + num_tokens, {"mlp_ratio": mlp_ratio, "norm_eps": eps, "feed_forward": "gelu"}
        self.class_embedding = nn.Embedding(num_classes, encoder_width)
        self.null_embedding = nn.Parameter(torch.empty(1, encoder_width))
        self.token_in = nn.Linear(token_dim, encoder_width)
        self.token_norm = nn.LayerNorm(encoder_width, eps=eps)
        self.encoder_position = nn.Parameter(torch.empty(1, total, encoder_width))
        self.encoder_blocks = nn.ModuleList(TransformerBlock(encoder_width, encoder_heads, **options)
                                            for _ in range(encoder_depth))
        self.encoder_norm = nn.LayerNorm(encoder_width, eps=eps)
        self.decoder_in = nn.Linear(encoder_width, decoder_width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_width))
        self.decoder_position = nn.Parameter(torch.empty(1, total, decoder_width))
        self.decoder_blocks = nn.ModuleList(TransformerBlock(decoder_width, decoder_heads, **options)
                                            for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=eps)
        self.head_position = nn.Parameter(torch.empty(1, num_tokens, decoder_width))
        self.diffusion_head = DiffusionHead(decoder_width, token_dim, head_width, head_depth, respacing=respacing,
                                            diffusion_batch_mul=diffusion_batch_mul)
        self._initialise()

    def _initialise(self) -> None:
        for weight in (self.class_embedding.weight, self.null_embedding, self.mask_token, self.encoder_position,
                       self.decoder_position, self.head_position):
            nn.init.normal_(weight, std=0.02)
        for module in (self.token_in, self.decoder_in, *self.encoder_blocks.modules(), *self.decoder_blocks.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(convert_vit_keys(state), KEYS)

    # backbone ---------------------------------------------------------------------------------------------------

    def encode(self, tokens: Tensor, masked: Tensor, condition: Tensor) -> Tensor:
        """States (B, buffer + known, C) of buffer and known tokens.

        Args:
            tokens: (B, N, D); masked ones may hold anything.
            masked: bool (B, N), with the same number of known tokens in each row.
            condition: class vectors (B, C).
        """
        buffer = condition[:, None].expand(-1, self.config.buffer_size, -1)
        x = self.token_norm(torch.cat([buffer, self.token_in(tokens)], dim=1) + self.encoder_position)
        places = _known_places(masked, self.config.buffer_size)
        x = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
        for block in self.encoder_blocks:
            x = block(x)
        return self.encoder_norm(x)

    def decode(self, encoded: Tensor, masked: Tensor) -> Tensor:
        """States of :meth:`encode` to what the head reads at all places, (B, N, C)."""
        known = self.decoder_in(encoded)
        places = _known_places(masked, self.config.buffer_size)[..., None].expand_as(known)
        x = self.mask_token.to(known.dtype).expand(len(known), self.decoder_position.shape[1], -1)
        x = x.scatter(1, places, known) + self.decoder_position
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, self.config.buffer_size:] + self.head_position

    def hidden(self, tokens: Tensor, masked: Tensor, condition: Tensor) -> Tensor:
        """:meth:`encode`, then :meth:`decode`."""
        return self.decode(self.encode(tokens, masked, condition), masked)

    def class_vectors(self, labels: Tensor, with_null: bool = False) -> Tensor:
        """Labels Long (B,) to (B, C); ``with_null`` adds B rows of the null class behind."""
        vectors = self.class_embedding(labels)
        return torch.cat([vectors, self.null_embedding.expand_as(vectors)]) if with_null else vectors

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Mean over masked tokens (B, N, D); the share of masked tokens is drawn once for the batch."""
        values, (rows, length) = tokens.values, tokens.values.shape[:2]
        noise = noise or GlobalNoise(values.device)
        classes = self.class_vectors(condition.labels)
        if self.training and self.config.label_drop:
            drop = noise.uniform(rows, 1) < self.config.label_drop
            classes = torch.where(drop, self.null_embedding, classes)
        order = noise.permutation(rows, length)
        ratio = truncated_normal(noise.uniform(1, dtype=torch.float64), 1.0, MASK_RATIO_STD,
                                 self.config.mask_ratio_min, 1.0)
        masked = torch.zeros(rows, length, dtype=torch.bool, device=values.device)
        masked.scatter_(1, order[:, : math.ceil(length * ratio.item())], True)
        hidden = self.hidden(values, masked, classes)
        return LossOutput(self.diffusion_head.loss(hidden, values, masked, noise=noise))

    def places_at_once(self, rows: int) -> int:
        return rows * self.config.num_tokens

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)

    # sampling ---------------------------------------------------------------------------------------------------

    def reveal_counts(self, sampler: MARSampler) -> list[int]:
        """Tokens that each step of the order reveals.

        Raises:
            ValueError: more steps than tokens.
        """
        length = self.config.num_tokens
        return cosine_reveal_counts(length, sampler.num_order_steps or max(1, length // 4))

    def respacing(self, sampler: MARSampler) -> str:
        """The head's steps; see :func:`photophone.layers.gaussian_diffusion.space_timesteps`."""
        if sampler.num_inference_steps is None and sampler.head_sampler == "ddpm":
            return self.config.respacing
        steps = sampler.num_inference_steps or len(self.diffusion_head.tables(self.config.respacing))
        return f"ddim{steps}" if sampler.head_sampler == "ddim" else str(steps)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: MARSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float (B, N, D)."""
        guided = is_guided(sampler.guidance_scale)
        classes = self.class_vectors(condition.labels, with_null=guided)
        counts, respacing = self.reveal_counts(sampler), self.respacing(sampler)

        def hidden(values: Tensor, masked: Tensor) -> Tensor:
            return self.hidden(values, masked, classes)

        def draw(states: Tensor, step: int) -> Tensor:
            return self.diffusion_head.sample(states, temperature=sampler.temperature, noise=noise, respacing=respacing,
                                              guidance=sampler.guidance_at(guidance_progress(counts, step)))

        return Tokens(decode_values(hidden, draw, len(condition), counts, self.config.token_dim, noise=noise,
                                    copies=2 if guided else 1, callback=callback, device=self.device,
                                    dtype=self.dtype))


def _known_places(masked: Tensor, buffer_size: int) -> Tensor:
    """Long (B, buffer + known): the places of buffer and known tokens in the whole sequence, in rising order."""
    known = int((~masked[0]).sum())
    tokens = masked.long().argsort(dim=1, stable=True)[:, :known] + buffer_size
    buffer = torch.arange(buffer_size, device=masked.device).expand(len(masked), -1)
    return torch.cat([buffer, tokens], dim=1)
