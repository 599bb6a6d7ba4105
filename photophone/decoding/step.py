"""One decode step of many rows: a fixed shape, nothing that the host must read, a CUDA graph where there is a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.decoding.code_model import CodeModel

BUCKET = 64
"""On a processor a step looks at the first multiple of so many places that holds all rows."""


class DecodeStep:
    """The next logits of the first rows of a static cache.

    On a GPU the step of all rows is captured once and replayed, so that its 200 launches cost one. Elsewhere, and
    with ``compiled``, it runs as it is: only rows in use, and on a processor only as many places as they have filled.

    Args:
        model: in eval mode, on its device.
        rows: of the cache, guidance rows included.
        compiled: run the step of all rows and places through ``torch.compile`` instead.

    Attributes:
        cache: the rows' keys and values.
        positions: Long (rows,), places that each row has filled; the step writes there and advances them.
    """

    def __init__(self, model: CodeModel, rows: int, compiled: bool = False) -> None:
        self.model, self.cache = model, model.static_cache(rows)
        device = model.device
        self.rotary = model.rotary().to(device)
        self.positions = torch.zeros(rows, dtype=torch.long, device=device)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self._last = self.cache.layers[0].buffer.shape[3] - 1
        self._whole = torch.compile(self._run_all, fullgraph=True, dynamic=False) if compiled else self._run_all
        self._fixed = compiled or device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits: Tensor | None = None

    @torch.inference_mode()
    def prefill(self, prefix: Tensor, first: int, visible: Tensor | None = None) -> Tensor:
        """Start rows ``first`` .. ``first + B - 1`` from a prefix (B, T, C); logits (B, V) of their first codes.

        Args:
            visible: bool (B, T), False for padding of the prefix.
        """
        rows = slice(first, first + len(prefix))
        length = prefix.shape[1]
        self.cache.visible[rows] = True
        if visible is not None:
            self.cache.visible[rows, :length] = visible
        view = self.cache.rows(rows)
        view.place(torch.zeros_like(self.positions[rows]), length)
        self.positions[rows] = length
        hidden = self.model.decode_step(prefix, self.rotary, view)
        return self.model.token_head.logits(hidden[:, -1:])[:, 0]

    @torch.inference_mode()
    def __call__(self, tokens: Tensor, filled: int) -> Tensor:
        """Logits (B, V) behind tokens Long (B,) of the first B rows.

        Args:
            filled: places that the longest of these rows has filled, as the caller counts them.
        """
        rows = len(tokens)
        if not self._fixed:
            view = self.cache.rows(slice(0, rows))
            span = min(-(-(filled + 1) // BUCKET) * BUCKET, self._last + 1)
            logits = self._run(tokens, self.positions[:rows], view, span)
            self.positions[:rows] += 1
            return logits
        self.tokens[:rows] = tokens
        if self.positions.device.type != "cuda":
            return self._whole()[:rows]
        if self._graph is None:
            self._capture()
        self._graph.replay()
        return self._logits[:rows]

    def _run(self, tokens: Tensor, positions: Tensor, cache, span: int | None = None) -> Tensor:
        cache.place(positions, span)
        x = self.model.token_embedding(tokens)[:, None]
        return self.model.token_head.logits(self.model.decode_step(x, self.rotary, cache))[:, 0]

    def _run_all(self) -> Tensor:
        """All rows at once, also those that no one uses: they overwrite their last place again and again."""
        logits = self._run(self.tokens, self.positions, self.cache)
        self.positions.add_(1).clamp_(max=self._last)
        return logits

    def _capture(self) -> None:
        kept = self.positions.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # kernels are compiled and chosen before the capture
            for _ in range(3):
                self._run_all()
                self.positions.copy_(kept)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = self._run_all()
        self.positions.copy_(kept)
