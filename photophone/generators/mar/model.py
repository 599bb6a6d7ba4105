"""MAR: masked autoregression over continuous tokens, each drawn by a small diffusion model.

Paper: arXiv 2406.11838. Official code: LTH14/mar, MIT. Weights: under the licence of the code, none stated apart;
trained on ImageNet. The tokens are those of :class:`photophone.tokenizers.kl_vae.model.KLVAE` ("mar-kl16").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import (
    Callback,
    check_labels,
    cosine_reveal_counts,
    notify,
    reveal_order,
    scheduled_guidance,
)
from photophone.generators.base import Generator
from photophone.heads import DiffusionHead
from photophone.heads.base import is_guided
from photophone.layers.transformer import TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^class_emb\.", "class_embedding."), (r"^fake_latent$", "null_embedding"),
        (r"^z_proj\.", "token_in."), (r"^z_proj_ln\.", "token_norm."), (r"^decoder_embed\.", "decoder_in."),
        (r"^encoder_pos_embed_learned$", "encoder_position"), (r"^decoder_pos_embed_learned$", "decoder_position"),
        (r"^diffusion_pos_embed_learned$", "head_position"), (r"^diffloss\.", "diffusion_head.")]
MASK_RATIO_STD = 0.25


def patchify(grid: Tensor, patch: int) -> Tensor:
    """(B, D, h*p, w*p) to tokens (B, h*w, D*p*p): channels first, then rows and columns of the patch."""
    return F.unfold(grid, patch, stride=patch).transpose(1, 2)


def unpatchify(tokens: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """Tokens (B, h*w, D*p*p) to (B, D, h*p, w*p); ``size`` is that of the result."""
    return F.fold(tokens.transpose(1, 2), size, patch, stride=patch)


def truncated_normal(uniform: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """Normal draws confined to [low, high], from uniform ones by the inverse distribution function."""
    first, last = (0.5 * (1 + math.erf((bound - mean) / std / math.sqrt(2))) for bound in (low, high))
    probability = first + uniform * (last - first)
    return (mean + std * torch.special.ndtri(probability)).clamp(low, high)


class MAR(OriginalCheckpoint, Generator):
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

    CONTAINERS = ("model_ema", "model")

    @register_to_config
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

    def forward(self, tokens: Tensor, labels: Tensor, noise: Noise | None = None) -> Tensor:
        """The loss, a scalar: mean over masked tokens.

        The share of masked tokens is drawn once for the batch. Labels are dropped in training mode only.

        Args:
            tokens: float (B, N, D).
            labels: Long (B,).
            noise: random draws; torch's global state when None.
        """
        noise, (rows, length) = noise or GlobalNoise(tokens.device), tokens.shape[:2]
        condition = self.class_vectors(labels)
        if self.training and self.config.label_drop:
            drop = noise.uniform(rows, 1) < self.config.label_drop
            condition = torch.where(drop, self.null_embedding, condition)
        order = noise.permutation(rows, length)
        ratio = truncated_normal(noise.uniform(1, dtype=torch.float64), 1.0, MASK_RATIO_STD,
                                 self.config.mask_ratio_min, 1.0)
        masked = torch.zeros(rows, length, dtype=torch.bool, device=tokens.device)
        masked.scatter_(1, order[:, : math.ceil(length * ratio.item())], True)
        hidden = self.hidden(tokens, masked, condition)
        return self.diffusion_head.loss(hidden, tokens, masked, noise=noise)

    # sampling ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, labels: Tensor, *, noise: Noise, guidance_scale: float = 1.0,
                 guidance_schedule: str = "linear", temperature: float = 1.0, num_inference_steps: int | None = None,
                 head_steps: int | str | None = None, callback: Callback | None = None) -> Tokens:
        """Sample tokens for each class.

        Published settings: 256 steps, 100 solver steps, linear guidance 2.9 (base), 3.0 (large) or 3.2 (huge).

        Args:
            labels: Long (B,).
            noise: B rows.
            guidance_scale: 1 is none.
            guidance_schedule: "linear" (rising with the share of known tokens) or "constant".
            temperature: of the head.
            num_inference_steps: steps of the masked order (default: a quarter of the tokens).
            head_steps: solver steps of the head, or a respacing such as "ddim50" (default: the config's).
            callback: called after each step of the order.

        Returns:
            Tokens, float (B, N, D).

        Raises:
            ValueError: for settings out of range.
        """
        check_labels(labels, self.config.num_classes)
        rows, length, guided = len(labels), self.config.num_tokens, is_guided(guidance_scale)
        copies = 2 if guided else 1
        condition = self.class_vectors(labels.to(self.device), with_null=guided)
        counts = cosine_reveal_counts(length, num_inference_steps or max(1, length // 4))
        values = torch.zeros(rows, length, self.config.token_dim, device=self.device)
        masked = torch.ones(rows, length, dtype=torch.bool, device=self.device)
        order = noise.permutation(rows, length).to(self.device)
        respacing = self.config.respacing if head_steps is None else str(head_steps)
        for step, places in enumerate(reveal_order(order, counts)):
            hidden = self.hidden(values.to(self.dtype).repeat(copies, 1, 1), masked.repeat(copies, 1), condition)
            drawn = self.diffusion_head.sample(
                take_places(hidden, places.repeat(copies, 1)), temperature=temperature, noise=noise,
                guidance=scheduled_guidance(guidance_scale, guidance_schedule, guidance_progress(counts, step)),
                respacing=respacing)
            values.scatter_(1, places[..., None].expand_as(drawn), drawn)
            masked.scatter_(1, places, False)
            notify(callback, step + 1, len(counts))
        return Tokens(values)


def take_places(x: Tensor, places: Tensor) -> Tensor:
    """Rows of x (B, N, C) at places (B, k): (B, k, C)."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def guidance_progress(counts: list[int], step: int) -> float:
    """Share of known tokens after ``step``; the official schedule never counts the very last token as known."""
    total = sum(counts)
    return min(sum(counts[: step + 1]), total - 1) / total


def _known_places(masked: Tensor, buffer_size: int) -> Tensor:
    """Long (B, buffer + known): the places of buffer and known tokens in the whole sequence, in rising order."""
    known = int((~masked[0]).sum())
    tokens = masked.long().argsort(dim=1, stable=True)[:, :known] + buffer_size
    buffer = torch.arange(buffer_size, device=masked.device).expand(len(masked), -1)
    return torch.cat([buffer, tokens], dim=1)
