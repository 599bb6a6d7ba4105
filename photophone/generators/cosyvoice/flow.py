"""CosyVoice 1, 2 and 3, and GLM-4-Voice: speech tokens, a prompt and a speaker to mel frames by flow matching.

Papers: CosyVoice (arXiv 2407.05407), CosyVoice 2 (2412.10117), CosyVoice 3 (2505.17589),
GLM-4-Voice (2412.02612).
Origin: github.com/FunAudioLLM/CosyVoice, and github.com/zai-org/GLM-4-Voice, which grew from version 1; code
Apache-2.0, weights as their hub pages state.

An encoder turns tokens into mean frames mu; a network estimates the velocity of frames given mu, the speaker and the
frames of the prompt; the solver runs from noise to frames. In versions 2 and 3 attention may be by chunks, and then the
model streams: see :mod:`photophone.generators.cosyvoice.stream`.

Time here runs from data at 0 to noise at 1, as everywhere in this package; in the papers it runs the other way.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.condition import FixedNoise, FlowSampler, ReseededNoise, SpeechTokens
from photophone.generators.cosyvoice.encoders import ENCODERS
from photophone.generators.cosyvoice.keys import ROTARY, convert_flow_keys, original_flow_keys
from photophone.generators.cosyvoice.mel_dit import MelDiT
from photophone.generators.cosyvoice.unet1d import UNet1d
from photophone.heads.base import is_guided, split_guidance
from photophone.kernels.solver import combine_guidance
from photophone.layers.flow import cosine_grid, euler, linear_path, time_grid
from photophone.layers.rows import equal_rows
from photophone.layers.streaming import StreamMemory
from photophone.loading.checkpoints import OriginalCheckpoint, State

ESTIMATORS = {"unet": UNet1d, "dit": MelDiT}
GRIDS = {"cosine": cosine_grid, "linear": time_grid}
NOISE_BLOCK = 50
EXAMPLE_TOKENS = 7


class CosyVoiceFlow(Generator, OriginalCheckpoint):
    """Speech tokens Long (B, N) to mel frames float32 (B, F, mel_dim).

    Args:
        vocab_size: speech tokens.
        input_dim: width of their embedding.
        mel_dim: mel bands.
        speaker_dim: width of the speaker vector.
        token_rate: tokens per second; tells the frames of the "regulated" encoder.
        frame_ratio: mel frames a token of the other encoders.
        encoder: "regulated" (CosyVoice 1), "upsample" (2), "lookahead" (3) or "blocks" (GLM-4-Voice).
        encoder_config: further arguments of its class in :mod:`photophone.generators.cosyvoice.encoders`.
        estimator: "unet" or "dit".
        estimator_config: arguments of :class:`UNet1d` or :class:`MelDiT`; their ``chunk`` is in frames.
        time_schedule: of the solver, "cosine" or "linear".
        sigma_min: noise that is left on the data in training.
        drop_rate: share of training clips without condition, for guidance.
        fixed_noise: the authors start from :meth:`own_noise` in every call; only then have we what they hear.
        fixed_frames: how many frames of it there are; longer speech needs another noise.
        reseeded: it is drawn afresh for each number of frames instead, and there are as many as one likes.
        warped_times: the times of training are those of the cosine schedule too.
        max_prefix: largest part of a clip whose frames are given in training, as if they were a prompt.
        mean_weight: in training, of the squared error of the mean frames themselves, as in Matcha-TTS (arXiv
            2309.03199): a small model that begins from nothing then soon tells the sounds. The authors have none.

    Raises:
        ValueError: an unknown encoder, estimator or schedule.
    """

    Condition = SpeechTokens
    Sampler = FlowSampler
    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = (ROTARY,)

    def __init__(self, vocab_size: int = 6561, input_dim: int = 512, mel_dim: int = 80, speaker_dim: int = 192,
                 token_rate: float = 25, frame_ratio: int = 2, encoder: str = "upsample",
                 encoder_config: dict | None = None, estimator: str = "unet", estimator_config: dict | None = None,
                 time_schedule: str = "cosine", sigma_min: float = 1e-6, drop_rate: float = 0.2,
                 fixed_noise: bool = False, fixed_frames: int = 15000, reseeded: bool = False,
                 warped_times: bool = False, max_prefix: float = 0.3, mean_weight: float = 0.0) -> None:
        super().__init__()
        for name, known in ((encoder, ENCODERS), (estimator, ESTIMATORS), (time_schedule, GRIDS)):
            if name not in known:
                raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")
        self.speech_embedding = nn.Embedding(vocab_size, input_dim)
        self.speaker_proj = nn.Linear(speaker_dim, mel_dim)
        encoder_class, rates = ENCODERS[encoder], {"token_rate": token_rate, "frame_ratio": frame_ratio}
        self.token_encoder = encoder_class(input_dim, mel_dim, rates[encoder_class.RATE], **(encoder_config or {}))
        self.velocity_net = ESTIMATORS[estimator](**(estimator_config or {}))
        self.path = linear_path(sigma_min)
        self.mean_only = False  # in training: only the encoder learns

    @staticmethod
    def convert_state_dict(state: State) -> State:
        renamed = {"encoder.": "token_encoder.", "estimator.": "velocity_net."}
        return {next((new + key.removeprefix(old) for old, new in renamed.items() if key.startswith(old)), key): value
                for key, value in convert_flow_keys(state).items()}

    @property
    def original_file(self) -> str | None:
        """Of versions 1, 2 and 3."""
        encoder, estimator = self.config.encoder, self.velocity_net
        if isinstance(estimator, MelDiT):
            return "flow.pt" if encoder == "lookahead" else None
        levels = {"regulated": 2, "upsample": 1}.get(encoder)
        same = len(estimator.down) == levels and estimator.streams == (levels == 1)
        return "flow.pt" if same else None

    def original_state_dict(self) -> State:
        made = original_flow_keys(self.state_dict())
        if isinstance(self.velocity_net, MelDiT):
            made[ROTARY] = self.velocity_net.rotary_rates()
        return made

    @property
    def has_chunks(self) -> bool:
        """Whether pieces can be made one by one and equal the whole: versions 2 and 3, with attention by chunks."""
        return self.token_encoder.streams and self.velocity_net.streams and self.velocity_net.chunk is not None

    @property
    def step_tokens(self) -> int:
        """Tokens of the smallest piece of a stream: whole chunks of the encoder and of the estimator."""
        if not self.has_chunks:
            raise ValueError("this flow has no attention by chunks: CosyVoice 1 sees the whole clip, and a U-Net of "
                             "several levels or one without chunk= cannot stream; use chunked=False")
        ratio = self.config.frame_ratio
        return math.lcm(self.velocity_net.chunk, ratio * (self.token_encoder.chunk or 1)) // ratio

    @property
    def noise_block(self) -> int:
        """Frames of noise that are drawn together."""
        return self.step_tokens * self.config.frame_ratio if self.has_chunks else NOISE_BLOCK

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

    def embed(self, tokens: Tensor) -> Tensor:
        """Speech tokens Long (B, N) to (B, N, input_dim); tokens below 0 count as 0.

        Raises:
            ValueError: tokens outside the vocabulary.
        """
        if tokens.numel() and int(tokens.max()) >= self.config.vocab_size:
            raise ValueError(f"speech tokens must lie below {self.config.vocab_size}, got {int(tokens.max())}")
        return self.speech_embedding(tokens.clamp(min=0))

    def speaker(self, vector: Tensor) -> Tensor:
        """Speaker vectors (B, speaker_dim) of any length but 0 to (B, mel_dim)."""
        return self.speaker_proj(F.normalize(vector.to(self.dtype), dim=1))

    def own_noise(self) -> Noise:
        """The noise that the authors start every clip from."""
        if self.config.reseeded:
            return ReseededNoise()
        return FixedNoise(self.config.mel_dim, self.config.fixed_frames)

    def start(self, noise: Noise, rows: int, frames: int) -> Tensor:
        """The next noise (B, mel_dim, frames), drawn in blocks of :attr:`noise_block` frames: so pieces join, and a row
        is the same beside longer ones. That of :class:`ReseededNoise` is drawn in one, as the authors do it."""
        if isinstance(noise, ReseededNoise):
            return noise.normal(rows, self.config.mel_dim, frames)
        blocks = [noise.normal(rows, self.config.mel_dim, self.noise_block)
                  for _ in range(-(-frames // self.noise_block))]
        return torch.cat(blocks, dim=2)[:, :, :frames]

    def solve(self, start: Tensor, mu: Tensor, speaker: Tensor, cond: Tensor, sight: Sight, *,
              sampler: FlowSampler, memories: list[StreamMemory] | None = None,
              callback: Callback | None = None) -> Tensor:
        """Mel frames float32 (B, mel_dim, T) from noise ``start``, all conditions (B, mel_dim, T) but the speaker.

        Args:
            sampler: guidance 1.7 is the rate 0.7 of the authors.
            memories: the past of each solver step in a stream, of 2 B rows, or B without guidance.
            callback: see :func:`photophone.decoding.loop.notify`.
        """
        conditions = [mu, speaker, cond]
        if is_guided(sampler.guidance_scale):
            conditions = [torch.cat([part, torch.zeros_like(part)]) for part in conditions]
        mu, speaker, cond = conditions
        mask, steps = mu.new_ones(len(mu), 1, mu.shape[-1]), iter(range(sampler.num_inference_steps))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            step = next(steps)
            both = x.to(mu.dtype).repeat(len(mu) // len(x), 1, 1)
            args = (both, mask, mu, (1 - t).to(mu.device, torch.float32).expand(len(mu)), speaker, cond, sight)
            if memories is None:
                out = self.velocity_net(*args).float()
            else:
                with memories[step].resume():
                    out = self.velocity_net(*args).float()
            notify(callback, step + 1, sampler.num_inference_steps)
            return -combine_guidance(*split_guidance(out, sampler.guidance_scale), sampler.guidance_scale)

        return euler(velocity, start.to(mu.device, torch.float32),
                     GRIDS[self.config.time_schedule](sampler.num_inference_steps))

    def encode(self, tokens: Tensor, prompt: int, prompt_frames: int, sight: Sight,
               following: Tensor | None = None) -> Tensor:
        """Mean frames (B, mel_dim, F) of prompt and speech tokens (B, N); see :class:`SpeechTokens`."""
        following = None if following is None else self.embed(following)
        mu = self.token_encoder.mean_frames(self.embed(tokens), prompt, prompt_frames, sight, following)
        return mu.transpose(1, 2)

    def frames(self, num_tokens: int) -> int:
        """Mel frames of ``num_tokens`` speech tokens."""
        return self.token_encoder.frames(num_tokens)

    def check_condition(self, condition: SpeechTokens) -> None:
        """See :meth:`SpeechTokens.check`; with the "blocks" encoder a prompt must leave frames for the speech."""
        condition.check(self.config.vocab_size, self.config.speaker_dim, self.config.mel_dim)
        if condition.prompt_tokens is None:
            return
        tokens, known = condition.prompt_tokens.shape[1], condition.prompt_mel.shape[1]
        total = self.token_encoder.total_frames(tokens, known, int(condition.counts.min()))
        if total <= known:
            raise ValueError(f"a prompt of {tokens} tokens and the speech make {total} mel frames together, and "
                             f"prompt_mel has {known} already; give fewer frames")

    def _generate(self, condition: SpeechTokens, *, noise: Noise, sampler: FlowSampler,
                  callback: Callback | None) -> Tokens:
        """Mel frames, float32 Tokens (B, F, mel_dim). Rows of equal length run together, without padding.

        The callback counts the solver steps of all groups of rows.
        """
        condition = condition.with_prompt(self.config.mel_dim)
        sights = self.sights(condition.prompt_tokens.shape[1], sampler.chunked, sampler.left_chunks)
        counts, known = condition.counts, condition.prompt_mel.shape[1]
        longest = self.token_encoder.total_frames(condition.prompt_tokens.shape[1], known, int(counts.max()))
        starts = None if isinstance(noise, ReseededNoise) else self.start(noise, len(condition), longest)
        groups = list(equal_rows(counts))
        total, made = len(groups) * sampler.num_inference_steps, []
        for index, (count, rows) in enumerate(groups):
            part = condition[rows]
            mu = self.encode(torch.cat([part.prompt_tokens, part.tokens[:, :count]], dim=1),
                             part.prompt_tokens.shape[1], known, sights[0], part.following)
            cond = F.pad(part.prompt_mel.transpose(1, 2), (0, mu.shape[-1] - known)).to(mu)
            size = mu.shape[-1]
            start = self.start(noise, len(part), size) if starts is None else starts[rows, :, :size]
            mel = self.solve(sampler.temperature * start, mu, self.speaker(part.speaker), cond, sights[1],
                             sampler=sampler,
                             callback=counting_on(callback, index * sampler.num_inference_steps, total))
            made.append(mel[:, :, known:].transpose(1, 2))
        if len(groups) == 1:
            return Tokens(made[0])
        result = made[-1].new_zeros(len(condition), *made[-1].shape[1:])  # the last group has the longest rows
        lengths = torch.zeros_like(counts)
        for (_, rows), frames in zip(groups, made, strict=True):
            result[rows, :frames.shape[1]], lengths[rows] = frames, frames.shape[1]
        return Tokens(result, lengths)

    def loss(self, tokens: Tokens, condition: SpeechTokens, *, noise: Noise | None = None) -> LossOutput:
        """Error of the velocity of mel frames, and with ``mean_weight`` that of the mean frames.

        Half of the clips give their first frames as a prompt, at most ``max_prefix`` of them. Models with attention by
        chunks see chunks in half of the batches.

        Args:
            tokens: mel frames, float (B, F, mel_dim).
            condition: of the same clips.
            noise: see :meth:`Generator.loss`.
        """
        mel, mask = tokens.values, tokens.mask
        noise = noise or GlobalNoise(mel.device)
        rows, size = mel.shape[:2]
        speaker = self.speaker(condition.speaker)
        token_mask = Tokens(condition.tokens, condition.lengths).mask
        chunked = self.has_chunks and float(noise.uniform(rows)[0]) < 0.5
        sights = self.sights(0, chunked)
        embedded = self.embed(condition.tokens) * token_mask[..., None]
        mu = self.token_encoder.train_frames(embedded, token_mask, size, sights[0])
        keep, part = noise.uniform(rows), noise.uniform(rows)
        prefix = torch.floor(part * (torch.floor(self.config.max_prefix * mask.sum(1)) + 1)) * (keep >= 0.5)
        cond = torch.where(torch.arange(size, device=mel.device) < prefix[:, None], 1, 0)[..., None] * mel
        mask = mask[:, None].to(mu.dtype)
        mu, mel = mu.transpose(1, 2) * mask, mel.transpose(1, 2).to(mu)
        mean = ((mu - mel) * mask).float().square().sum() / (mask.sum() * mel.shape[1])
        if self.mean_only:
            return LossOutput(mean)
        loss, _ = self.matching_loss(mel, mask, mu, speaker, cond.transpose(1, 2).to(mu), noise, sights[1])
        if not self.config.mean_weight:
            return LossOutput(loss)
        return LossOutput(loss + self.config.mean_weight * mean, {"velocity": loss.detach(), "mean": mean.detach()})

    def matching_loss(self, data: Tensor, mask: Tensor, mu: Tensor, speaker: Tensor, cond: Tensor, noise: Noise,
                      sight: Sight) -> tuple[Tensor, Tensor]:
        """Masked mean squared error of the velocity, and the noised frames; all (B, mel_dim, T), mask (B, 1, T).

        Draws times, noise and, in training, which rows lose their condition, in this order.
        """
        rows = len(data)
        time = noise.uniform(rows, 1, 1).to(data)  # of the papers: 0 is noise
        if self.config.warped_times:
            time = 1 - torch.cos(math.pi / 2 * time)
        eps = noise.normal(*data.shape).to(data)
        if self.training:
            kept = (noise.uniform(rows) > self.config.drop_rate).to(data)
            mu, speaker, cond = mu * kept[:, None, None], speaker * kept[:, None], cond * kept[:, None, None]
        noised = self.path.interpolate(data, eps, 1 - time)
        predicted = self.velocity_net(noised, mask, mu, time[:, 0, 0], speaker, cond, sight)
        error = (predicted + self.path.velocity(data, eps, 1 - time)) * mask
        return error.float().square().sum() / (mask.sum() * data.shape[1]), noised

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> SpeechTokens:
        """Six or seven tokens, and a prompt of two with their frames."""
        generator, config = torch.Generator().manual_seed(seed), self.config
        tokens, prompt = (torch.randint(0, config.vocab_size, (rows, count), generator=generator)
                          for count in (EXAMPLE_TOKENS, 2))
        speaker = torch.randn(rows, config.speaker_dim, generator=generator)
        frames = torch.randn(rows, self.frames(2), config.mel_dim, generator=generator)
        lengths = torch.tensor([EXAMPLE_TOKENS - row % 2 for row in range(rows)])
        return SpeechTokens(tokens, speaker, lengths, prompt, frames)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """The mel frames of :meth:`example_condition`."""
        lengths = torch.tensor([self.frames(EXAMPLE_TOKENS - row % 2) for row in range(rows)])
        shape = rows, int(lengths.max()), self.config.mel_dim
        return Tokens(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), lengths)


def counting_on(callback: Callback | None, before: int, total: int) -> Callback | None:
    """The callback of a part of the sampling, of whose ``total`` steps ``before`` are done."""
    return None if callback is None else lambda step, _: callback(before + step, total)
