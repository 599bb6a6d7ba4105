"""GPT-2's network with positions that callers choose, and the loop that continues prompts of different length.

Paper: Language Models are Unsupervised Multitask Learners (Radford and others, 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.decoding.loop import Callback, KVCache, notify
from photophone.layers.transformer import TransformerBlock
from photophone.loading.checkpoints import State, rename_keys

MATRICES = ("attention.to_q.weight", "feed_forward.0.weight", "feed_forward.2.weight", "attention.to_out.weight")


class GPT2(nn.Module):
    """Ids Long (B, N) at positions Long (B, N) to logits (B, N, vocab_size); the head shares the table of the ids.

    Args:
        vocab_size, num_positions: sizes of the tables.
        width, depth, num_heads: of the blocks.
    """

    def __init__(self, vocab_size: int, num_positions: int, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.depth, self.num_heads, self.head_dim = depth, num_heads, width // num_heads
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(num_positions, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids: Tensor, positions: Tensor, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        """Float32 logits.

        Args:
            ids, positions: of the new tokens.
            mask: bool, broadcastable to (B, 1, N, M), True where a token sees another.
            cache: keys and values of the M - N tokens before; None: there are none.
        """
        x = self.tokens(ids) + self.positions(positions)
        for block, layer in zip(self.blocks, cache.layers if cache else [None] * self.depth, strict=True):
            x = block(x, mask, cache=layer)
        return F.linear(self.norm(x), self.tokens.weight).float()

    def continue_prompts(self, prompts: list[Tensor], places: list[Tensor], steps: int, first_position: int,
                         pick: Callable[[Tensor], Tensor], callback: Callback | None) -> Tensor:
        """``steps`` ids Long (B, steps) behind each prompt.

        Args:
            prompts, places: ids and their positions Long (P,) of each row; shorter rows are filled up in front, out of
                sight.
            steps: how many ids.
            first_position: of the first of them; the others follow.
            pick: logits (B, V) to ids Long (B,).
            callback: see :func:`photophone.decoding.loop.notify`.
        """
        device, rows, longest = self.tokens.weight.device, len(prompts), max(map(len, prompts))
        ids, positions = (torch.stack([F.pad(row, (longest - len(row), 0)) for row in each]).to(device)
                          for each in (prompts, places))
        counts = torch.tensor([len(row) for row in prompts], device=device)
        order = torch.arange(longest, device=device)
        visible = order >= longest - counts[:, None]
        mask = (order <= order[:, None]) & (visible[:, None] | torch.eye(longest, dtype=torch.bool, device=device))
        cache = KVCache(self.depth, rows, self.num_heads, longest + steps, self.head_dim, device,
                        self.tokens.weight.dtype)
        made = []
        for step in range(steps):
            made.append(pick(self(ids, positions, mask[:, None], cache)[:, -1]))
            notify(callback, step + 1, steps)
            ids, positions = made[-1][:, None], torch.full((rows, 1), first_position + step, device=device)
            visible = F.pad(visible, (0, 1), value=True)
            mask = visible[:, None]
        return torch.stack(made, dim=1)


def convert_gpt2_keys(state: State, prefix: str, target: str) -> State:
    """Keys of a GPT-2 as transformers writes it, below ``prefix``, to those of a :class:`GPT2` at ``target``.

    Its matrices lie the other way round. A copy of the table of the ids, which the head is, is left out.
    """
    known = {key: value for key, value in state.items()
             if key.startswith(prefix) and not key.endswith(("lm_head.weight", ".attn.bias", ".attn.masked_bias"))}
    renamed = rename_keys(known, [
        (rf"^{prefix}transformer\.", target), (r"\.wte\.", ".tokens."), (r"\.wpe\.", ".positions."),
        (r"\.h\.", ".blocks."), (r"\.ln_1\.", ".norm1."), (r"\.ln_2\.", ".norm2."), (r"\.ln_f\.", ".norm."),
        (r"\.attn\.c_attn\.", ".attention.to_q."), (r"\.attn\.c_proj\.", ".attention.to_out."),
        (r"\.mlp\.c_fc\.", ".feed_forward.0."), (r"\.mlp\.c_proj\.", ".feed_forward.2.")])
    made: State = {}
    for key, given in renamed.items():
        value = given.T.contiguous() if key.endswith(MATRICES) else given
        if ".attention.to_q." in key:
            made[key], made[key.replace("to_q", "to_kv")] = value[:len(value) // 3], value[len(value) // 3:]
        else:
            made[key] = value
    return made
