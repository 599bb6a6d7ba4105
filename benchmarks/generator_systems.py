"""The systems of ``generators.py``: models of about 100 million parameters, and how each makes a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import SeededNoise
from photophone.decoding.loop import Callback, DecodingStopped, KVCache, notify
from photophone.generators.base import Generator
from photophone.generators.bitdance.model import BitDance
from photophone.generators.cspd.model import SpeculativeMAR
from photophone.generators.hart.model import HART
from photophone.generators.llamagen.model import LlamaGenGPT
from photophone.generators.mar.model import MAR
from photophone.generators.maskgen.model import MaskGenVQ
from photophone.generators.nar.model import NAR
from photophone.generators.var.model import VAR
from photophone.generators.xar.model import XAR
from photophone.tokenizers.var_vq.hybrid import HARTTokenizer
from photophone.tokenizers.var_vq.model import VARTokenizer

TOKENS, SIDE, CLASSES = 256, 16, 1000
SCALES = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]
GUIDANCE = 3.0
PAR_REGIONS = 4
"""PAR-4X (arXiv 2412.15119): a code for each of four regions in turn, then four a step."""


@dataclass(frozen=True)
class System:
    """One row of the table.

    Args:
        words: what the table calls it.
        build: makes the model, or parts of it, with so many blocks.
        depth: blocks of the measured one.
        sampler: options of its sampler.
        solver_steps: of its head, or of each cell; None where there is no choice.
        timed_steps: those that a run makes, which is then projected; None: all.
        published: it has the size of a paper, and is measured with one image only.
        make: runs it, where it is no generator of photophone: model, rows, callback, solver steps.
    """

    words: str
    build: Callable[[int], Any]
    depth: int
    sampler: dict[str, Any] = field(default_factory=dict)
    solver_steps: int | None = None
    timed_steps: int | None = None
    published: bool = False
    make: Callable[[Any, int, Callback, int | None], None] | None = None


def run(name: str, model: Any, rows: int, callback: Callback, solver_steps: int | None = None) -> None:
    """Make a batch; a callback that returns True ends it. ``solver_steps`` replace those of a system that has some."""
    system = SYSTEMS[name]
    try:
        if system.make is not None:
            system.make(model, rows, callback, solver_steps or system.solver_steps)
            return
        steps = {"num_inference_steps": solver_steps or system.solver_steps} if system.solver_steps else {}
        sampler = model.Sampler.from_settings({"guidance_scale": GUIDANCE, **system.sampler, **steps})
        model.generate(model.example_condition(rows), noise=SeededNoise.from_seeds(range(rows)), sampler=sampler,
                       callback=callback)
    except DecodingStopped:
        pass


# autoregressive ---------------------------------------------------------------------------------------------------


def llamagen(depth: int) -> LlamaGenGPT:
    """LlamaGen-B, also for PAR."""
    return LlamaGenGPT(grid_size=SIDE, width=768, depth=depth, num_heads=12).eval()


def parallel_steps(model: LlamaGenGPT, rows: int, callback: Callback, solver_steps: int | None = None) -> None:
    """The passes of PAR-4X: which codes these are makes no difference to their cost."""
    config, groups = model.config, [1] * PAR_REGIONS + [PAR_REGIONS] * (TOKENS // PAR_REGIONS - 1)
    x = model.prefix(model.example_condition(rows)).repeat(2, 1, 1)
    cache = KVCache(len(model.blocks), 2 * rows, config.num_heads, TOKENS + 1, config.width // config.num_heads)
    rotary = model.rotary()
    for step, count in enumerate(groups):
        start, stop = cache.length, cache.length + x.shape[1]
        mask = torch.ones(1, 1, x.shape[1], stop, dtype=torch.bool)
        states = model.hidden(x, mask, rotary[start:stop], cache)
        cond, null = model.token_head.logits(states[:, -1:].expand(-1, count, -1)).chunk(2)
        codes = (null + GUIDANCE * (cond - null)).softmax(dim=-1).flatten(0, 1).multinomial(1).view(rows, count)
        x = model.token_embedding(codes).repeat(2, 1, 1)
        notify(callback, step + 1, len(groups))


def nar(depth: int) -> NAR:
    """NAR-B with fewer blocks, as it has two heads; one of them belongs to the lower head."""
    return NAR(grid_size=SIDE, width=768, depth=depth, num_heads=12).eval()


# scale by scale ---------------------------------------------------------------------------------------------------


def connected(model: Generator, tokenizer: type[VARTokenizer]) -> Generator:
    """A model with the codebook of a tokenizer, whose networks are as small as they can be."""
    model.connect(tokenizer(image_size=SIDE, channels=32, multipliers=[1], blocks=1, scales=SCALES))
    return model.eval()


def var(depth: int) -> Generator:
    """A VAR between d8 and d16."""
    return connected(VAR(scales=SCALES, width=704, depth=depth, num_heads=11), VARTokenizer)


def hart(depth: int) -> Generator:
    """HART's published form at a smaller width."""
    return connected(HART(scales=SCALES, width=768, depth=depth, num_heads=12, modulation="table", context_norm=True,
                          head_width=768, head_depth=4), HARTTokenizer)


# masked and continuous --------------------------------------------------------------------------------------------


def mar_config(depth: int, width: int, heads: int) -> dict[str, Any]:
    """Arguments of a MAR with so many blocks in each half."""
    return {"encoder_width": width, "encoder_depth": depth, "encoder_heads": heads, "decoder_width": width,
            "decoder_depth": depth, "decoder_heads": heads, "head_width": 768, "head_depth": 4}


def mar(depth: int) -> MAR:
    """MAR of the target's size."""
    return MAR(**mar_config(depth, 640, 10)).eval()


def cspd(depth: int) -> SpeculativeMAR:
    """That MAR with a draft of about a fifth of its size, as mar-base is of mar-huge."""
    draft = {**mar_config(depth, 288, 4), "head_width": 384, "head_depth": 3}
    return SpeculativeMAR(mar_config(depth, 640, 10), draft).eval()


def xar(depth: int) -> XAR:
    """xAR-B with smaller blocks."""
    return XAR(width=640, encoder_depth=depth, encoder_heads=10, decoder_depth=depth, decoder_heads=10).eval()


def xar_base(depth: int) -> XAR:
    """xAR-B as published."""
    return XAR(encoder_depth=depth, decoder_depth=depth).eval()


def maskgen(depth: int) -> MaskGenVQ:
    """MaskGen-VQ with 256 tokens."""
    return MaskGenVQ(num_tokens=TOKENS, width=768, depth=depth, num_heads=12).eval()


def bitdance(side: int) -> Callable[[int], BitDance]:
    """BitDance with side * side tokens a step."""
    def build(depth: int) -> BitDance:
        return BitDance(step_side=side, width=512, depth=depth, num_heads=8, head_width=512, class_tokens=64).eval()
    return build


# diffusion --------------------------------------------------------------------------------------------------------


def dit(heads: int, head_dim: int = 64) -> Callable[[int], nn.Module]:
    """diffusers' DiT of patches of two latents: 256 tokens."""
    def build(depth: int) -> nn.Module:
        from diffusers import DiTTransformer2DModel

        return DiTTransformer2DModel(num_layers=depth, num_attention_heads=heads, attention_head_dim=head_dim,
                                     in_channels=4, out_channels=8, sample_size=2 * SIDE, patch_size=2,
                                     num_embeds_ada_norm=CLASSES).eval()
    return build


def denoise(model: nn.Module, rows: int, callback: Callback, solver_steps: int) -> None:
    """Guided sampling by diffusers' DDIM; one step of the table, as all solver steps cost the same."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler()
    scheduler.set_timesteps(solver_steps)
    x = torch.randn(rows, 4, 2 * SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.arange(rows), torch.full((rows,), CLASSES)])
    for t in scheduler.timesteps:
        made: Tensor = model(x.repeat(2, 1, 1, 1), timestep=t.expand(2 * rows), class_labels=labels).sample[:, :4]
        cond, null = made.chunk(2)
        x = scheduler.step(null + GUIDANCE * (cond - null), t, x).prev_sample
    notify(callback, 1, 1)


MAR_STEPS = {"num_order_steps": 64}
SYSTEMS = {
    "ar": System("raster AR (LlamaGen)", llamagen, 12),
    "par": System("PAR-4X, its passes", llamagen, 12, make=parallel_steps),
    "nar": System("NAR", nar, 9),
    "var": System("VAR", var, 11, {"top_k": 900, "top_p": 0.96}),
    "hart": System("HART", hart, 12, {"smooth": True}),
    "maskgen": System("MaskGen-VQ", maskgen, 5),
    "mar": System("MAR, 64 steps", mar, 8, MAR_STEPS, 25),
    "cspd": System("CSpD of two MARs, 64 steps", cspd, 8, {**MAR_STEPS, "num_draft_steps": 8, "prefill": 0.05}, 25),
    "xar": System("xAR", xar, 7, solver_steps=40, timed_steps=4),
    "bitdance-1": System("BitDance, 1 token a step", bitdance(1), 16, solver_steps=100),
    "bitdance-4": System("BitDance, 4 tokens a step", bitdance(2), 16, solver_steps=100),
    "bitdance-16": System("BitDance, 16 tokens a step", bitdance(4), 16, solver_steps=100),
    "dit": System("DiT of diffusers, 250 steps", dit(12), 9, solver_steps=250, timed_steps=4, make=denoise),
    "dit-20": System("DiT of diffusers, 20 steps", dit(12), 9, solver_steps=20, timed_steps=4, make=denoise),
    "xar-base": System("xAR-B as published", xar_base, 8, solver_steps=40, timed_steps=4, published=True),
    "dit-xl": System("DiT-XL/2 of diffusers, 250 steps", dit(16, 72), 28, solver_steps=250, timed_steps=2,
                     make=denoise, published=True),
}
"""By the names of ``--only``."""
