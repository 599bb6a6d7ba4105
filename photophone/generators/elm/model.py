"""ELM's autoregressive model: the bits of a cell at once, in one code or several, cell by cell, from a class.

Paper: arXiv 2410.16257. Official code: Pepper-lll/LMforImageGeneration, without a licence: this is an implementation
of its own. Weights: none stated; trained on ImageNet. The tokens are those of
:class:`photophone.tokenizers.elm_bae.model.BinaryAutoencoder`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import LossOutput
from photophone.generators.conditions import ClassLabels
from photophone.generators.elm.base import KEYS, ELMGenerator, cell_loss
from photophone.generators.elm.guidance import shape_option, shaped_guidance
from photophone.generators.sampler import Sampler, guidance_option, temperature_option, top_k_option, top_p_option
from photophone.heads.base import is_guided
from photophone.heads.categorical import CategoricalHead
from photophone.loading.checkpoints import State, rename_keys


@dataclass(frozen=True)
class ELMARSampler(Sampler):
    """Options of :class:`ELMAR`.

    Published: linear guidance 4 and top_k 1000 for FID of the "L 2-10" model; constant guidance 2 and top_k 400 in the
    demo.
    """

    guidance_scale: float = guidance_option(4.0)
    guidance_schedule: str = shape_option()
    temperature: float = temperature_option()
    top_k: int = top_k_option()
    top_p: float = top_p_option()


class ELMAR(ELMGenerator):
    """Classes to codes Long (B, N), or (B, Q, N), row by row. The codes of a cell are drawn independently.

    The official training also drops out tokens and what attention and feed-forward add, which is left out here.

    Args:
        grid_size: cells per side.
        code_bits: bits of a code.
        num_codebooks: Q, codes of a cell.
        num_classes: classes; one more row is the null class.
        width, depth, num_heads, num_kv_heads, hidden_multiple, hidden_factor, eps, rotary_base: of the transformer, see
            :class:`photophone.generators.llamagen.model.LlamaGenGPT`.
        label_drop: share of training labels replaced by the null class.
    """

    Sampler = ELMARSampler

    def __init__(self, grid_size: int = 16, code_bits: int = 10, num_codebooks: int = 2, num_classes: int = 1000,
                 width: int = 1024, depth: int = 24, num_heads: int = 16, num_kv_heads: int | None = None,
                 hidden_multiple: int = 256, hidden_factor: float | None = None, eps: float = 1e-5,
                 rotary_base: float = 10_000.0, label_drop: float = 0.1) -> None:
        super().__init__()
        self._build(num_classes, width, depth, num_heads, num_kv_heads, hidden_multiple, hidden_factor, eps)
        self.token_embeddings = nn.ModuleList(nn.Embedding(2**code_bits, width) for _ in range(num_codebooks))
        several = num_codebooks > 1
        self.token_in = nn.Linear(num_codebooks * width, width, bias=False) if several else nn.Identity()
        self.token_head = CategoricalHead(width, 2**code_bits, num_codebooks, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.0 if name.startswith("token_head") else 0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; the layers for each code of a cell become one."""
        heads = sorted(key for key in state if key.startswith("output.") and key != "output.weight")
        if heads:
            joined = torch.cat([state[f"output.{book}.weight"] for book in range(len(heads))])
            state = {**{key: value for key, value in state.items() if key not in heads}, "output.weight": joined}
        return rename_keys(state, [
            *KEYS, (r"^tok_embedder\.weight$", "token_embeddings.0.weight"), (r"^tok_embedder\.", "token_embeddings."),
            (r"^proj\.", "token_in."), (r"^output\.", "token_head.linear.")])

    def embed(self, cells: Tensor) -> Tensor:
        """Codes Long (B, n, Q) of cells to (B, n, C)."""
        parts = [table(codes) for table, codes in zip(self.token_embeddings, cells.unbind(-1), strict=True)]
        return self.token_in(torch.cat(parts, dim=-1))

    def teacher_logits(self, cells: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, n + 1, Q, V) of the first cells and the next, in one pass.

        Args:
            cells: Long (B, n, Q), the first codes.
            labels: Long (B,) in 0..num_classes, the last for the null class.
        """
        x = torch.cat([self.class_embedding(labels)[:, None], self.embed(cells)], dim=1)
        length = x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        logits = self.token_head.logits(self.stack(x, mask, self.rotary()[:length]))
        return logits[:, :, None] if logits.ndim == 3 else logits.transpose(1, 2)

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats, mean over all codes Long (B, N) or (B, Q, N)."""
        labels = self.drop_labels(condition.labels, noise or GlobalNoise(tokens.values.device))
        cells = self.in_cells(tokens.values)
        return LossOutput(cell_loss(self.teacher_logits(cells[:, :-1], labels), cells))

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: ELMARSampler,
                  callback: Callback | None) -> Tokens:
        config, rows, guided = self.config, len(condition), is_guided(sampler.guidance_scale)
        labels, copies = condition.labels, 2 if guided else 1
        if guided:
            labels = torch.cat([labels, self.null_labels(labels)])
        rotary = self.rotary()
        cache = KVCache(config.depth, len(labels), config.num_kv_heads or config.num_heads, len(rotary),
                        config.width // config.num_heads, self.device, self.dtype)

        def step(index: int, previous: Tensor | None) -> Tensor:
            x = self.class_embedding(labels)[:, None] if previous is None else self.embed(previous).repeat(copies, 1, 1)
            hidden = self.stack(x, None, rotary[index:index + 1], cache.layers)
            strength = shaped_guidance(sampler.guidance_scale, sampler.guidance_schedule, index, self.num_cells)
            codes = self.token_head.sample(hidden if is_guided(strength) else hidden[:rows], guidance=strength,
                                           noise=noise, temperature=sampler.temperature, top_k=sampler.top_k,
                                           top_p=sampler.top_p)
            return self.in_cells(codes)

        return Tokens(self.in_books(collect(autoregress(step, self.num_cells, callback=callback))[0]))
