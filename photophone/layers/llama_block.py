"""The transformer block of Llama: RMS norms and a gated feed-forward, without biases (arXiv 2302.13971)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.kernels.adaln import gate_residual
from photophone.kernels.decode_block import DecodeBlock, run_decode_blocks
from photophone.kernels.few_rows import MAX_ROWS
from photophone.layers.adaln import modulated_norm, residual_norm
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import LayerCache
from photophone.loading.checkpoints import State

LLAMA_NAMES = {"layers.": "blocks.", ".input_layernorm.": ".norm1.", ".post_attention_layernorm.": ".norm2.",
               ".self_attn.": ".attention.", "o_proj": "to_out", ".mlp.gate_proj.": ".feed_forward.gate.",
               ".mlp.up_proj.": ".feed_forward.value.", ".mlp.down_proj.": ".feed_forward.out."}
"""Parts of keys in transformers and here."""
ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu}


class GatedFeedForward(nn.Module):
    """``out(activation(gate(x)) * value(x))``: SwiGLU with "silu", GEGLU with "gelu" (arXiv 2002.05202).

    Args:
        dim: width C of x (..., C) and of the result.
        hidden: width between.
        activation: a name in ACTIVATIONS.
        bias: of all three layers.
    """

    def __init__(self, dim: int, hidden: int, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.gate = nn.Linear(dim, hidden, bias=bias)
        self.value = nn.Linear(dim, hidden, bias=bias)
        self.out = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) to the same."""
        return self.out(self.activation(self.gate(x)) * self.value(x))


class LlamaBlock(nn.Module):
    """Pre-norm attention with rotary positions and SwiGLU, each with a residual; no biases but where Qwen2 has them.

    Args:
        dim: width C.
        num_heads: heads.
        hidden: width of the feed-forward.
        eps: of the RMS norms.
        num_kv_heads, head_dim, rotary_halves: see :class:`photophone.layers.self_attention.SelfAttention`.
        residual_scale: factor on what attention and feed-forward add.
        qkv_bias: queries, keys and values have biases, as in Qwen2 (arXiv 2407.10671).
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, eps: float = 1e-5, *, num_kv_heads: int | None = None,
                 head_dim: int | None = None, rotary_halves: bool = False, residual_scale: float = 1.0,
                 qkv_bias: bool = False) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.attention = SelfAttention(dim, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bias=qkv_bias,
                                       out_bias=False, rotary_halves=rotary_halves)
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.feed_forward = GatedFeedForward(dim, hidden)
        self._block: DecodeBlock | None = None  # of the packed layers, made when it is first needed

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: LayerCache | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C); see :class:`photophone.layers.self_attention.SelfAttention`."""
        caches = None if cache is None else [cache]
        made = _run_compiled([self], x, mask, rotary, caches)
        if made is not None:
            return made
        attended = self.attention(modulated_norm(self.norm1, x), mask, rotary, cache)
        x, normed = residual_norm(self.norm2, x, self.residual_scale, attended)
        return gate_residual(x, self.residual_scale, self.feed_forward(normed))

    def compiled(self) -> DecodeBlock | None:
        """The block in C++, where its layers are packed for decoding; else None.

        A step asks all blocks, so this goes past the lookups of modules, which cost ten times as much.
        """
        modules = self._modules
        attention = modules["attention"]._modules
        feed = modules["feed_forward"]._modules
        layers = attention["to_qkv"], attention["to_out"], feed["gate"], feed["value"], feed["out"]
        packed = [layer.__dict__.get("packed") for layer in layers]
        if None in packed:
            return None
        norm1 = modules["norm1"]._parameters["weight"]
        norm2 = modules["norm2"]._parameters["weight"]
        # layers that were prepared, moved or loaded again are other ones, at other addresses
        key = (*map(id, packed), norm1.data_ptr(), norm2.data_ptr())
        if self._block is None or self._block.key != key:
            own = self.attention
            self._block = DecodeBlock(*packed, norm1.detach(), norm2.detach(), self.norm1.eps, self.residual_scale,
                                      own.num_heads, own.num_kv_heads, own.head_dim, own.rotary_halves)
        return self._block


def run_blocks(blocks: Sequence[LlamaBlock], x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
               caches: Sequence[LayerCache | None] | None = None, norm: nn.RMSNorm | None = None) -> Tensor:
    """x (B, N, C) -> (B, N, C) through blocks one after the other, and the norm behind them if there is one.

    A step of few tokens through blocks that are prepared for decoding is one call of compiled code.

    Args:
        mask, rotary: see :class:`photophone.layers.self_attention.SelfAttention`.
        caches: one of each block, or None.
    """
    made = _run_compiled(blocks, x, mask, rotary, caches, norm)
    if made is not None:
        return made
    for block, cache in zip(blocks, caches or [None] * len(blocks), strict=True):
        x = block(x, mask, rotary, cache)
    return x if norm is None else norm(x)


def _run_compiled(blocks: Sequence[LlamaBlock], x: Tensor, mask: Tensor | None, rotary: Tensor | None,
                  caches: Sequence[LayerCache | None] | None, norm: nn.RMSNorm | None = None) -> Tensor | None:
    """The blocks in C++, where all are packed for decoding and take this step; else None, and nothing is done."""
    if not caches or rotary is None or None in caches or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return None
    count = x.shape[1]
    if len(x) * count > MAX_ROWS:
        return None
    compiled = [block.compiled() for block in blocks]
    if None in compiled or any(block.shape != compiled[0].shape for block in compiled):
        return None
    buffers = [cache.buffer for cache in caches]
    first = caches[0]
    if not (compiled[0].fits(x, mask, buffers[0]) and all(cache.is_like(first) for cache in caches)):
        return None
    weight = None if norm is None else norm.weight
    eps = 0.0 if norm is None else norm.eps
    if weight is not None and (eps is None or weight.dtype != x.dtype or weight.device != x.device):
        return None
    start = [cache.reserve(count) for cache in caches][0]
    return run_decode_blocks(compiled, x, mask, rotary, buffers, start, first.seen, weight, eps)


class LlamaStack(nn.Module):
    """Blocks and the norm behind them: embedded tokens (B, N, C) to states (B, N, C).

    Args:
        dim, num_heads, hidden, eps, options: of each :class:`LlamaBlock`.
        depth: blocks.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, depth: int, eps: float = 1e-5, **options) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(LlamaBlock(dim, num_heads, hidden, eps, **options) for _ in range(depth))
        self.norm = nn.RMSNorm(dim, eps=eps)

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                caches: Sequence[LayerCache | None] | None = None) -> Tensor:
        """See :class:`photophone.layers.self_attention.SelfAttention`; ``caches`` has one of each block."""
        return run_blocks(self.blocks, x, mask, rotary, caches, self.norm)


def convert_llama_keys(state: State, prefix: str, target: str) -> State:
    """Keys of a Llama as transformers writes it, below ``prefix``, to those of a :class:`LlamaStack` at ``target``.

    The stack must pair rotary channels by ``rotary_halves``. Other keys stay.
    """
    made: State = {}
    for key, value in state.items():
        if not key.startswith(prefix):
            made[key] = value
        elif key.endswith((".self_attn.q_proj.weight", ".self_attn.q_proj.bias")):
            parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            made[target + _rename(key.removeprefix(prefix)).replace("q_proj", "to_qkv")] = torch.cat(parts)
        elif ".self_attn.k_proj." not in key and ".self_attn.v_proj." not in key:
            made[target + _rename(key.removeprefix(prefix))] = value
    return made


def original_llama_keys(state: State, source: str, prefix: str, num_heads: int, num_kv_heads: int) -> State:
    """The inverse of :func:`convert_llama_keys`: of a stack at ``source`` to transformers' keys below ``prefix``.

    Other keys are left out.

    Args:
        num_heads, num_kv_heads: of its attention.
    """
    made: State = {}
    for key, value in state.items():
        if not key.startswith(source):
            continue
        name = key.removeprefix(source)
        for theirs, ours in LLAMA_NAMES.items():
            name = name.replace(ours, theirs)
        if "to_qkv" not in name:
            made[prefix + name] = value
            continue
        size = len(value) // (num_heads + 2 * num_kv_heads)
        parts = value.split([num_heads * size, num_kv_heads * size, num_kv_heads * size])
        made |= {prefix + name.replace("to_qkv", f"{part}_proj"): rows.clone()
                 for part, rows in zip("qkv", parts, strict=True)}
    return made


def _rename(name: str) -> str:
    for theirs, ours in LLAMA_NAMES.items():
        name = name.replace(theirs, ours)
    return name
