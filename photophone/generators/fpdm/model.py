"""FPDM: a diffusion transformer in which one block, iterated, stands for most of the others.

Paper: arXiv 2401.08740. Official code: lukemelas/fixed-point-diffusion-models, no licence file (it descends from DiT):
this is written from the paper and from recorded behaviour. No weights are published. The latents are those of Stable
Diffusion's autoencoder, (B, 32 * 32, 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_INFERENCE_STEPS
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.fixed_point import KINDS, iteration_counts
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_values
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import Sampler, guidance_option, option, steps_option
from photophone.heads.base import is_guided
from photophone.layers.adaln import AdaLNFinalLayer
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.embeddings import TimestepEmbedding, grid_sinusoids
from photophone.layers.gaussian_diffusion import (
    DiffusionTables,
    ddim_step,
    diffusion_losses,
    diffusion_tables,
    learned_range_log_variance,
    posterior_mean,
    predict_x0,
)
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import FeedForward
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.tokenizers.grid import to_grid, to_sequence

TRAIN_STEPS = 1000
PREDICTIONS = ("noise", "velocity")
KEYS = [(r"^x_embedder\.proj\.", "patches."), (r"^pos_embed$", "positions"), (r"^t_embedder\.", "time_embed."),
        (r"^y_embedder\.embedding_table\.", "class_embedding."), (r"^blocks_pre\.", "before."),
        (r"^blocks_post\.", "behind."), (r"^block_pre_projection\.", "injection."),
        (r"^block_fixed_point_projection_fc1\.", "mix.0."), (r"^block_fixed_point_projection_fc2\.", "mix.2."),
        (r"^block_fixed_point\.", "block."), (r"\battn\.qkv\.", "attention.to_qkv."),
        (r"\battn\.proj\.", "attention.to_out."), (r"\bmlp\.fc1\.", "feed_forward.0."),
        (r"\bmlp\.fc2\.", "feed_forward.2."),
        (r"^((?:before|behind)\.\d+|block)\.adaLN_modulation\.", r"\1.modulation.")]


@dataclass(frozen=True)
class FPDMSampler(Sampler):
    """Options of :class:`FPDM`."""

    num_inference_steps: int = steps_option(50, "of the 1000 steps of training")
    num_iterations: int = option(26, "iterations of the block in each step, on average", low=1,
                                 high=MAX_INFERENCE_STEPS)
    iterations: str = option("fixed", "how they lie over the steps, from noise to image", choices=KINDS)
    reuse: bool = option(True, "a step starts from the solution of the one before")
    deterministic: bool = option(False, "DDIM instead of DDPM")
    guidance_scale: float = guidance_option(4.0)


class FPDM(OriginalCheckpoint, ClassGenerator):
    """Classes to latents (B, N, D) of a square grid.

    Args:
        grid_size: latents per side.
        token_dim: D.
        patch: latents per side of what is one token inside.
        num_classes: classes; one more row is the null class.
        width, num_heads, mlp_ratio: of the blocks.
        before_depth, behind_depth: blocks around the iterated one.
        time_everywhere: blocks around it and the last layer know the time too, as the class's default in the official
            code has it; its training script says no.
        guided_channels: channels of the noise that guidance changes: 3 of 4 in the official code.
        prediction: what the network predicts: "noise", or "velocity" with a schedule that ends in pure noise.
        free_iterations, graded_iterations: least and greatest number of iterations in training that gradients do not
            pass, and that they pass.
        label_drop: share of training labels replaced by the null class.

    Raises:
        ValueError: sizes that do not fit, or an unknown prediction.
    """

    Sampler = FPDMSampler
    BACKBONE = "block"

    def __init__(self, grid_size: int = 32, token_dim: int = 4, patch: int = 2, num_classes: int = 1000,
                 width: int = 1152, num_heads: int = 16, mlp_ratio: float = 4.0, before_depth: int = 1,
                 behind_depth: int = 1, time_everywhere: bool = False, guided_channels: int = 3,
                 prediction: str = "noise",
                 free_iterations: list[int] | tuple[int, ...] = (0, 10),
                 graded_iterations: list[int] | tuple[int, ...] = (1, 12), label_drop: float = 0.1) -> None:
        super().__init__()
        if patch < 1 or grid_size % patch or width % 4:
            raise ValueError(f"a grid of {grid_size} must split into patches of {patch}, and the width {width} by 4")
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        for low, high in (free_iterations, graded_iterations):
            if not 0 <= low <= high:
                raise ValueError(f"iterations must be a least and a greatest number, got {low} and {high}")
        side = grid_size // patch

        def block() -> AdaLNBlock:
            return AdaLNBlock(SelfAttention(width, num_heads), FeedForward(width, mlp_ratio), width)

        self.patches = nn.Conv2d(token_dim, width, patch, stride=patch)
        self.register_buffer("positions", grid_sinusoids(side, width))
        self.time_embed = TimestepEmbedding(width)
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.before = nn.ModuleList(block() for _ in range(before_depth))
        self.injection = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(approximate="tanh"),
                                 nn.Linear(2 * width, width))
        self.block = block()
        self.behind = nn.ModuleList(block() for _ in range(behind_depth))
        self.final_layer = AdaLNFinalLayer(width, patch * patch * 2 * token_dim)
        nn.init.normal_(self.class_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return {key: value[0] if key == "positions" else value for key, value in rename_keys(state, KEYS).items()}

    # the network --------------------------------------------------------------------------------------------------

    def iterate(self, state: Tensor, injected: Tensor, condition: Tensor, count: int) -> list[Tensor]:
        """States (B, n, W) behind each of ``count`` iterations."""
        states = []
        for _ in range(count):
            state = self.block(self.mix(torch.cat([state, injected], dim=-1)), condition)
            states.append(state)
        return states

    def enter(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What stands before the iterations: states and what is injected (B, n, W), both conditions (B, 1, W)."""
        classes = self.class_embedding(labels)[:, None]
        timed = classes + self.time_embed(t)[:, None]
        outer = timed if self.config.time_everywhere else classes
        states = to_sequence(self.patches(x)) + self.positions
        for block in self.before:
            states = block(states, outer)
        return states, self.injection(states), timed, outer

    def leave(self, states: Tensor, condition: Tensor) -> Tensor:
        """States (B, n, W) to noise (or velocity) and variance, (B, 2 D, H, W)."""
        for block in self.behind:
            states = block(states, condition)
        side, patch = self.config.grid_size // self.config.patch, self.config.patch
        cells = self.final_layer(states, condition).unflatten(1, (side, side)).unflatten(3, (patch, patch, -1))
        return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, h, w, p, q, C) -> (B, C, hp, wq)

    def predict(self, x: Tensor, t: Tensor, labels: Tensor, counts: tuple[int, int],
                start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise and variance (B, 2 D, H, W) of x (B, D, H, W), and the solution (B, n, W) of the iterations.

        Args:
            t: steps Long (B,).
            labels: Long (B,).
            counts: iterations that gradients do not pass, and that they pass.
            start: a solution to start from; None: the states before the iterations.
        """
        states, injected, timed, outer = self.enter(x, t, labels)
        solution = states if start is None else start
        if counts[0]:
            solution = self.iterate(solution.detach(), injected.detach(), timed.detach(), counts[0])[-1].detach()
        solution = [solution, *self.iterate(solution, injected, timed, counts[1])][-1]
        return self.leave(solution, outer), solution

    def draw_counts(self, noise: Noise, rows: int) -> tuple[int, int]:
        """Iterations of a training step, the same for all rows; both ends of a range count."""
        ranges = (self.config.free_iterations, self.config.graded_iterations)
        return tuple(int(noise.integers(low, high + 1, rows)[0]) for low, high in ranges)

    # diffusion ----------------------------------------------------------------------------------------------------

    def tables(self, respacing: str = "") -> DiffusionTables:
        """Of the process."""
        return diffusion_tables("linear", TRAIN_STEPS, respacing, self.config.prediction == "velocity")

    def losses(self, x0: Tensor, t: Tensor, eps: Tensor, labels: Tensor,
               counts: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Squared error and variational bound (B,) of latents (B, D, H, W); see :meth:`predict`."""
        tables = self.tables()
        x0, eps = to_sequence(x0), to_sequence(eps)
        places = t[:, None].expand(x0.shape[:2])
        size = (self.config.grid_size,) * 2
        x = to_grid(tables.noised(x0, eps, places), size)
        output = to_sequence(self.predict(x, t, labels, counts)[0])
        errors, bound = diffusion_losses(tables, output, x0, eps, places,
                                         velocity=self.config.prediction == "velocity")
        return errors.mean(dim=1), bound.mean(dim=1)

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Squared error plus variational bound of latents (B, N, D), one step a row."""
        noise, rows = noise or GlobalNoise(tokens.values.device), len(tokens)
        labels, counts = self.drop_labels(condition.labels, noise), self.draw_counts(noise, rows)
        t = noise.integers(0, TRAIN_STEPS, rows).to(labels.device)
        x0 = to_grid(tokens.values, (self.config.grid_size,) * 2)
        errors, bound = self.losses(x0, t, noise.normal(*x0.shape).to(x0), labels, counts)
        return LossOutput((errors + bound).mean(), {"error": errors.mean().detach(), "bound": bound.mean().detach()})

    def guided(self, output: Tensor, rows: int, guidance: float) -> Tensor:
        """Outputs (B, 2 D, H, W) of (2B, 2 D, H, W), of which the first channels are guided."""
        if len(output) == rows:
            return output
        cond, uncond = output.chunk(2)
        count = self.config.guided_channels
        first = uncond[:, :count] + guidance * (cond[:, :count] - uncond[:, :count])
        return torch.cat([first, cond[:, count:]], dim=1)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: FPDMSampler,
                  callback: Callback | None) -> Tokens:
        """Latents float32 (B, N, D)."""
        shape = (len(condition), self.config.token_dim, self.config.grid_size, self.config.grid_size)
        x = noise.normal(*shape).to(self.device)
        return Tokens(to_sequence(self.denoise(x, condition.labels, noise, sampler, callback)))

    def denoise(self, x: Tensor, labels: Tensor, noise: Noise, sampler: FPDMSampler,
                callback: Callback | None = None) -> Tensor:
        """Noise x (B, D, H, W) to latents, for labels Long (B,)."""
        rows, steps, solution = len(x), sampler.num_inference_steps, None
        tables = self.tables(str(steps))
        if is_guided(sampler.guidance_scale):
            labels = torch.cat([labels, self.null_labels(labels)])
        counts = iteration_counts(steps * sampler.num_iterations, steps, sampler.iterations)
        for index, step in enumerate(reversed(range(steps))):
            times = tables.timesteps[step].to(x.device).expand(len(labels))
            both = x.repeat(len(labels) // rows, 1, 1, 1).to(self.dtype)
            output, made = self.predict(both, times, labels, (0, counts[index]), solution)
            solution = made if sampler.reuse else None
            output = self.guided(output.float(), rows, sampler.guidance_scale)
            x = self.step(tables, x, output, step, noise, sampler.deterministic)
            notify(callback, index + 1, steps)
        return x

    def step(self, tables: DiffusionTables, x: Tensor, output: Tensor, step: int, noise: Noise,
             deterministic: bool) -> Tensor:
        """x (B, D, H, W) one step on."""
        made, variance = output.chunk(2, dim=1)
        velocity = self.config.prediction == "velocity"
        x0 = tables.start_of_velocity(x, made, step) if velocity else predict_x0(tables, x, made, step)
        if deterministic:
            return ddim_step(tables, x, x0, step, tables.noise_of_velocity(x, made, step) if velocity else None)
        mean = posterior_mean(tables, x0, x, step)
        draws = noise.normal(*x.shape).to(x.device)  # at the last step too, as the official code
        if not step:
            return mean
        return mean + torch.exp(0.5 * learned_range_log_variance(tables, variance, step)) * draws

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.grid_size**2, self.config.token_dim, seed)
