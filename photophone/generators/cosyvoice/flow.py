"""CosyVoice 1, 2 and 3: speech tokens, a prompt and a speaker to mel frames by conditional flow matching.

Papers: CosyVoice (arXiv 2407.05407), CosyVoice 2 (2412.10117), CosyVoice 3 (2505.17589).
Origin: github.com/FunAudioLLM/CosyVoice; code Apache-2.0, weights Apache-2.0 as their hub pages state.

An encoder turns tokens into mean frames mu; a network estimates the velocity of frames given mu, the speaker and the
frames of the prompt; the solver runs from noise to frames. In versions 2 and 3 attention may be by chunks, and then the
model streams: see :mod:`photophone.generators.cosyvoice.stream`.

Time here runs from data at 0 to noise at 1, as everywhere in this package; in the papers it runs the other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise, SeededNoise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator
from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.encoders import ENCODERS, regulated_frames
from photophone.generators.cosyvoice.keys import convert_flow_keys
from photophone.generators.cosyvoice.mel_dit import MelDiT
from photophone.generators.cosyvoice.unet1d import UNet1d
from photophone.heads.base import check_temperature, split_guidance
from photophone.kernels.solver import combine_guidance
from photophone.layers.flow import cosine_grid, euler, linear_path, time_grid
from photophone.layers.streaming import StreamMemory
from photophone.loading.checkpoints import OriginalCheckpoint, State

ESTIMATORS = {"unet": UNet1d, "dit": MelDiT}
GRIDS = {"cosine": cosine_grid, "linear": time_grid}
NOISE_BLOCK = 50
MAX_PREFIX = 0.3
"""Largest part of a clip whose frames are given in training, as if they were a prompt."""


def length_mask(lengths: Tensor | None, rows: int, size: int, device: torch.device) -> Tensor:
    """Bool (B, size), True before each row's length, or everywhere."""
    if lengths is None:
        return torch.ones(rows, size, dtype=torch.bool, device=device)
    return torch.arange(size, device=device) < lengths.to(device)[:, None]


class CosyVoiceFlow(Generator, OriginalCheckpoint):
    """Speech tokens Long (B, N) to mel frames float32 (B, F, mel_dim).

    Args:
        vocab_size: speech tokens.
        input_dim: width of their embedding.
        mel_dim: mel bands.
        speaker_dim: width of the speaker vector.
        token_rate: tokens per second; tells the frames of the "regulated" encoder.
        frame_ratio: mel frames a token of the other encoders.
        encoder: "regulated" (CosyVoice 1), "upsample" (2) or "lookahead" (3).
        encoder_config: further arguments of its class in :mod:`photophone.generators.cosyvoice.encoders`.
        estimator: "unet" or "dit".
        estimator_config: arguments of :class:`UNet1d` or :class:`MelDiT`; their ``chunk`` is in frames.
        time_schedule: of the solver, "cosine" or "linear".
        sigma_min: noise that is left on the data in training.
        drop_rate: share of training clips without condition, for guidance.
        fixed_noise: the frames of CosyVoice 2 and 3 start from the same noise in every call, drawn once from seed 0;
            only then have we what the authors hear.
        fixed_frames: how many frames of it there are; longer speech needs ``noise=``.

    Raises:
        ValueError: an unknown encoder, estimator or schedule.
    """

    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("decoder.estimator.rotary_embed.inv_freq",)

    @register_to_config
    def __init__(self, vocab_size: int = 6561, input_dim: int = 512, mel_dim: int = 80, speaker_dim: int = 192,
                 token_rate: int = 25, frame_ratio: int = 2, encoder: str = "upsample",
                 encoder_config: dict | None = None, estimator: str = "unet", estimator_config: dict | None = None,
                 time_schedule: str = "cosine", sigma_min: float = 1e-6, drop_rate: float = 0.2,
                 fixed_noise: bool = False, fixed_frames: int = 15000) -> None:
        super().__init__()
        for name, known in ((encoder, ENCODERS), (estimator, ESTIMATORS), (time_schedule, GRIDS)):
            if name not in known:
                raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")
        self.speech_embedding = nn.Embedding(vocab_size, input_dim)
        self.speaker_proj = nn.Linear(speaker_dim, mel_dim)
        self.token_encoder = ENCODERS[encoder](
            input_dim, mel_dim, token_rate if encoder == "regulated" else frame_ratio, **(encoder_config or {}))
        self.velocity_net = ESTIMATORS[estimator](**(estimator_config or {}))
        self.path = linear_path(sigma_min)
        self._fixed: Tensor | None = None

    @staticmethod
    def convert_state_dict(state: State) -> State:
        renamed = {"encoder.": "token_encoder.", "estimator.": "velocity_net."}
        return {next((new + key.removeprefix(old) for old, new in renamed.items() if key.startswith(old)), key): value
                for key, value in convert_flow_keys(state).items()}

    @property
    def streams(self) -> bool:
        """Whether chunks can be made one by one and equal the whole: versions 2 and 3, with attention by chunks."""
        return (self.config.encoder != "regulated" and self.velocity_net.streams
                and self.velocity_net.chunk is not None)

    @property
    def step_tokens(self) -> int:
        """Tokens of the smallest piece of a stream: whole chunks of the encoder and of the estimator."""
        self._check_streams()
        ratio = self.config.frame_ratio
        return math.lcm(self.velocity_net.chunk, ratio * (self.token_encoder.chunk or 1)) // ratio

    @property
    def noise_block(self) -> int:
        """Frames of noise that are drawn together."""
        return self.step_tokens * self.config.frame_ratio if self.streams else NOISE_BLOCK

    def sights(self, prompt: int, chunked: bool, left_chunks: int | None = None) -> tuple[Sight, Sight]:
        """What tokens and frames see: everything, or by chunks with ``prompt`` tokens always in sight.

        ``left_chunks`` counts pieces of :attr:`step_tokens`.
        """
        if not chunked:
            if left_chunks is not None:
                raise ValueError(f"left_chunks={left_chunks} needs chunked=True")
            return Sight(), Sight()
        step, ratio = self.step_tokens, self.config.frame_ratio

        def sight(chunk: int, factor: int) -> Sight:
            left = None if left_chunks is None else left_chunks * step * factor // chunk
            return Sight(chunk, left, prompt * factor)

        return sight(self.token_encoder.chunk or step, 1), sight(self.velocity_net.chunk, ratio)

    def _check_streams(self) -> None:
        if not self.streams:
            raise ValueError("this flow has no attention by chunks: CosyVoice 1 sees the whole clip, and a U-Net of "
                             "several levels or one without chunk= cannot stream; use chunked=False")

    def embed(self, tokens: Tensor) -> Tensor:
        """Speech tokens Long (B, N) to (B, N, input_dim); tokens below 0 count as 0."""
        if tokens.numel() and int(tokens.max()) >= self.config.vocab_size:
            raise ValueError(f"speech tokens must lie below {self.config.vocab_size}, got {int(tokens.max())}")
        return self.speech_embedding(tokens.to(self.device).clamp(min=0))

    def speaker(self, vector: Tensor) -> Tensor:
        """Speaker vectors (B, speaker_dim) of any length but 0 to (B, mel_dim)."""
        if vector.dim() != 2 or vector.shape[1] != self.config.speaker_dim:
            raise ValueError(f"speaker vectors must be (B, {self.config.speaker_dim}), got {tuple(vector.shape)}")
        return self.speaker_proj(F.normalize(vector.to(self.device, self.dtype), dim=1))

    def start(self, noise: Noise | None, rows: int, first: int, frames: int) -> Tensor:
        """Noise (B, mel_dim, frames) from frame ``first`` on, drawn in blocks of :attr:`noise_block` frames: so pieces
        join, and a row is the same beside longer ones.

        Raises:
            ValueError: no noise for a model without ``fixed_noise``, or more frames than that has.
        """
        mel, last = self.config.mel_dim, first + frames
        if noise is not None:
            blocks = [noise.normal(rows, mel, self.noise_block) for _ in range(-(-frames // self.noise_block))]
            return torch.cat(blocks, dim=2)[:, :, :frames]
        if not self.config.fixed_noise:
            raise ValueError("this flow draws its start: give noise=SeededNoise.from_seeds([...])")
        if last > self.config.fixed_frames:
            raise ValueError(f"the fixed noise has {self.config.fixed_frames} frames, {last} are needed; give noise=")
        if self._fixed is None:
            self._fixed = SeededNoise.from_seeds([0]).normal(1, mel, self.config.fixed_frames)
        return self._fixed[:, :, first:last].expand(rows, -1, -1)

    def solve(self, start: Tensor, mu: Tensor, speaker: Tensor, cond: Tensor, sight: Sight, *,
              num_inference_steps: int = 10, guidance_scale: float = 1.7,
              memories: list[StreamMemory] | None = None, callback: Callback | None = None) -> Tensor:
        """Mel frames float32 (B, mel_dim, T) from noise ``start``, all conditions (B, mel_dim, T) but the speaker.

        Args:
            guidance_scale: 1 is no guidance; 1.7 is the rate 0.7 of the authors.
            memories: the past of each solver step in a stream, of 2 B rows, or B without guidance.
            callback: see :func:`photophone.decoding.loop.notify`.
        """
        conditions = [mu, speaker, cond]
        if guidance_scale != 1.0:
            conditions = [torch.cat([part, torch.zeros_like(part)]) for part in conditions]
        mu, speaker, cond = conditions
        mask, steps = mu.new_ones(len(mu), 1, mu.shape[-1]), iter(range(num_inference_steps))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            step = next(steps)
            both = x.to(mu.dtype).repeat(len(mu) // len(x), 1, 1)
            args = (both, mask, mu, (1 - t).to(mu.device, torch.float32).expand(len(mu)), speaker, cond, sight)
            if memories is None:
                out = self.velocity_net(*args).float()
            else:
                with memories[step].resume():
                    out = self.velocity_net(*args).float()
            notify(callback, step + 1, num_inference_steps)
            return -combine_guidance(*split_guidance(out, guidance_scale), guidance_scale)

        return euler(velocity, start.to(mu.device, torch.float32),
                     GRIDS[self.config.time_schedule](num_inference_steps))

    def encode(self, tokens: Tensor, prompt: int, prompt_frames: int, sight: Sight,
               following: Tensor | None = None) -> Tensor:
        """Mean frames (B, mel_dim, F) of prompt and speech tokens (B, N); see :meth:`generate`."""
        x = self.embed(tokens)
        if self.config.encoder == "regulated":
            return self.token_encoder(x, prompt, prompt_frames).transpose(1, 2)
        context = None if following is None else self.embed(following)
        return self.token_encoder(x, sight, context=context).transpose(1, 2)

    def frames(self, num_tokens: int) -> int:
        """Mel frames of ``num_tokens`` speech tokens."""
        if self.config.encoder == "regulated":
            return regulated_frames(num_tokens, self.config.token_rate)
        return num_tokens * self.config.frame_ratio

    @torch.no_grad()
    def generate(self, tokens: Tensor | Tokens, speaker: Tensor, prompt_tokens: Tensor | None = None,
                 prompt_mel: Tensor | None = None, *, noise: Noise | None = None, callback: Callback | None = None,
                 chunked: bool = False, left_chunks: int | None = None, num_inference_steps: int = 10,
                 guidance_scale: float = 1.7, temperature: float = 1.0,
                 following: Tensor | None = None) -> Tokens:
        """Mel frames, float32 Tokens (B, F, mel_dim). Rows of different length run one after the other, as alone.

        Args:
            tokens: speech tokens (B, N), Tokens with lengths, or Long.
            speaker: (B, speaker_dim).
            prompt_tokens, prompt_mel: tokens (B, P) and frames (B, G, mel_dim) of a voice to continue, or None.
            noise: a row for each sample; None starts a model with ``fixed_noise`` from its own.
            callback: called after each solver step; rows of different length count on.
            chunked, left_chunks: attention by chunks as in a stream, see :meth:`sights`.
            num_inference_steps, guidance_scale: see :meth:`solve`.
            temperature: factor on the noise.
            following: Long (B, ahead), tokens that follow and of which only the look ahead knows; None: the end.

        Raises:
            ValueError: shapes that do not fit, or what the model cannot do.
        """
        check_temperature(temperature)
        tokens = tokens if isinstance(tokens, Tokens) else Tokens(tokens)
        prompt_tokens, prompt_mel = self.check_prompt(len(tokens.values), prompt_tokens, prompt_mel)
        self._check_rows(tokens, speaker)
        sights = self.sights(prompt_tokens.shape[1], chunked, left_chunks)
        whole = tokens.mask.sum(1).tolist()
        same = len(set(whole)) == 1
        starts = self.start(noise, len(whole), 0, prompt_mel.shape[1] + self.frames(max(whole)))
        groups = [list(range(len(whole)))] if same else [[row] for row in range(len(whole))]
        total, results = num_inference_steps * len(groups), []
        for index, rows in enumerate(groups):
            length = whole[rows[0]]
            past, known = prompt_tokens[rows], prompt_mel[rows]
            mu = self.encode(torch.cat([past, tokens.values[rows, :length].to(past.device)], dim=1), past.shape[1],
                             known.shape[1], sights[0], None if following is None else following[rows])
            cond = F.pad(known.transpose(1, 2), (0, mu.shape[-1] - known.shape[1])).to(mu)
            mel = self.solve(
                temperature * starts[rows, :, :mu.shape[-1]], mu, self.speaker(speaker[rows]), cond, sights[1],
                num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
                callback=self._counting(callback, index * num_inference_steps, total))
            results.append(mel[:, :, known.shape[1]:].transpose(1, 2))
        lengths = None if same else torch.tensor([len(result[0]) for result in results], device=self.device)
        most = max(result.shape[1] for result in results)
        return Tokens(torch.cat([F.pad(result, (0, 0, 0, most - result.shape[1])) for result in results]), lengths)

    def stream(self, pieces: Iterable[Tensor], speaker: Tensor, prompt_tokens: Tensor | None = None,
               prompt_mel: Tensor | None = None, **options: Any) -> Iterator[Tensor]:
        """Mel frames (B, n, mel_dim) as soon as the tokens for them have come; see
        :func:`photophone.generators.cosyvoice.stream.stream_mel`."""
        from photophone.generators.cosyvoice.stream import stream_mel  # which knows this class

        return stream_mel(self, pieces, speaker, prompt_tokens, prompt_mel, **options)

    def forward(self, tokens: Tensor, mel: Tensor, speaker: Tensor, token_lengths: Tensor | None = None,
                lengths: Tensor | None = None, *, noise: Noise | None = None) -> Tensor:
        """Training loss of clips: tokens (B, N), frames (B, F, mel_dim), speakers (B, speaker_dim).

        Half of the clips give their first frames as a prompt, at most ``MAX_PREFIX`` of them. Models that stream see
        chunks in half of the batches.
        """
        noise = noise or GlobalNoise(self.device)
        rows, size = mel.shape[:2]
        speaker = self.speaker(speaker)
        mask = length_mask(lengths, rows, size, mel.device)
        token_mask = length_mask(token_lengths, rows, tokens.shape[1], mel.device)
        chunked = self.streams and float(noise.uniform(rows)[0]) < 0.5
        sights = self.sights(0, chunked)
        mu = self.token_encoder.train_frames(self.embed(tokens) * token_mask[..., None], token_mask, size, sights[0])
        keep, part = noise.uniform(rows), noise.uniform(rows)
        prefix = torch.floor(part * (torch.floor(MAX_PREFIX * mask.sum(1)) + 1)) * (keep >= 0.5)
        cond = torch.where(torch.arange(size, device=mel.device) < prefix[:, None], 1, 0)[..., None] * mel
        mask = mask[:, None].to(mu.dtype)
        loss, _ = self.matching_loss(mel.transpose(1, 2).to(mu), mask, mu.transpose(1, 2) * mask, speaker,
                                     cond.transpose(1, 2).to(mu), noise, sights[1])
        return loss

    def matching_loss(self, data: Tensor, mask: Tensor, mu: Tensor, speaker: Tensor, cond: Tensor, noise: Noise,
                      sight: Sight) -> tuple[Tensor, Tensor]:
        """Masked mean squared error of the velocity, and the noised frames; all (B, mel_dim, T), mask (B, 1, T).

        Draws times, noise and which rows lose their condition, in this order.
        """
        rows = len(data)
        time = noise.uniform(rows, 1, 1).to(data)  # of the papers: 0 is noise
        eps = noise.normal(*data.shape).to(data)
        kept = (noise.uniform(rows) > self.config.drop_rate).to(data)
        noised = self.path.interpolate(data, eps, 1 - time)
        predicted = self.velocity_net(noised, mask, mu * kept[:, None, None], time[:, 0, 0], speaker * kept[:, None],
                                      cond * kept[:, None, None], sight)
        error = (predicted + self.path.velocity(data, eps, 1 - time)) * mask
        return error.float().square().sum() / (mask.sum() * data.shape[1]), noised

    def check_prompt(self, rows: int, tokens: Tensor | None, mel: Tensor | None) -> tuple[Tensor, Tensor]:
        """The prompt's tokens Long (B, P) and frames (B, G, mel_dim), empty when there is none."""
        if (tokens is None) != (mel is None):
            raise ValueError("a prompt needs both prompt_tokens and prompt_mel")
        if tokens is None or mel is None:
            tokens, mel = torch.zeros(rows, 0, dtype=torch.long), torch.zeros(rows, 0, self.config.mel_dim)
        if tokens.dim() != 2 or mel.dim() != 3 or mel.shape[2] != self.config.mel_dim or \
                not len(tokens) == len(mel) == rows:
            raise ValueError(f"a prompt of {rows} rows has tokens ({rows}, P) and frames ({rows}, G, "
                             f"{self.config.mel_dim}), got {tuple(tokens.shape)} and {tuple(mel.shape)}")
        return tokens.long().to(self.device), mel.to(self.device)

    def _check_rows(self, tokens: Tokens, speaker: Tensor) -> None:
        if tokens.values.dim() != 2 or tokens.is_continuous or len(speaker) != len(tokens.values):
            raise ValueError(f"expected Long tokens (B, N) and B speakers, got {tuple(tokens.values.shape)} and "
                             f"{len(speaker)}")
        if not tokens.num_tokens or int(tokens.mask.sum(1).min()) < 1:
            raise ValueError("every row needs at least one speech token")

    @staticmethod
    def _counting(callback: Callback | None, before: int, total: int) -> Callback | None:
        return None if callback is None else lambda step, _: callback(before + step, total)
