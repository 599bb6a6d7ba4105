"""A request that Ming-UniVision goes on with: one row of text, and up to three while it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.decoding.memory import Memory
from photophone.generators.interleaved import Request
from photophone.heads.base import is_guided

if TYPE_CHECKING:
    from photophone.generators.ming.model import MingSampler, MingUniVision


class MingSession:
    """A request that :class:`MingUniVision` has read and goes on with; see
    :class:`photophone.decoding.interleaved.Session`."""

    def __init__(self, model: MingUniVision, request: Request, noise: Noise, sampler: MingSampler) -> None:
        self.model, self.noise, self.sampler = model, noise, sampler
        ids, config = request.ids.to(model.device)[None], model.config
        self.asked, self.has_images = request.asked.to(model.device)[None], bool(request.images)
        self.of_image = (ids == config.image_id) | (ids == config.image_start) | (ids == config.image_end)
        x, places = model.text_embedding(ids), ids == config.image_id
        if request.images:
            tokens = torch.stack(request.images).to(model.device)
            read = model.embed_tokens(tokens)[:, :-1].flatten(0, 1)  # the last token is no patch
            x = x.masked_scatter(places[..., None], read.to(x.dtype))
        self.memory = Memory(model.backbone, 1, ids.shape[1] + config.num_tokens)
        self.last = self.memory(x, images=places if request.images else None)[:, -1:]
        self.silent = torch.tensor([config.image_id], device=model.device)

    def logits(self) -> Tensor:
        """See the protocol."""
        return self.model.text_head(self.last)[:, 0].float().index_fill(-1, self.silent, -torch.inf)

    def read(self, id: int) -> None:
        """See the protocol."""
        self.last = self.memory(self.model.text_embedding(torch.tensor([[id]], device=self.model.device)))

    def masks(self) -> list[Tensor]:
        """What each branch sees of all but the last id, bool (1, M): all; nothing that was asked; of that the images
        alone, where there are any and guidance tells them apart."""
        sampler, seen = self.sampler, self.memory.mask[:, :-1]
        if not (is_guided(sampler.guidance_scale) or self.has_images and is_guided(sampler.image_guidance)):
            return [seen]
        later = torch.ones_like(seen[:, self.asked.shape[1]:])
        masks = [seen, torch.cat([~self.asked, later], dim=1)]
        if self.has_images:
            masks.append(torch.cat([~self.asked | self.of_image, later], dim=1))
        return masks

    def draw_image(self, callback: Callback | None) -> Tokens:
        """See the protocol: the branches part at the start of the image, and the first of them goes on."""
        model, masks, memory, hidden = self.model, self.masks(), self.memory, self.last
        if len(masks) > 1:
            self.memory.forget(1)
            memory = Memory.joined([self.memory] * len(masks), model.config.num_tokens + 1, masks)
            start = torch.full((len(masks), 1), model.image_start, device=model.device)
            hidden = memory(model.text_embedding(start))
        tokens, last = model.draw_tokens(memory, hidden, len(masks), self.noise, self.sampler, callback)
        if memory is not self.memory:
            self.memory.take(memory, model.config.num_tokens)
        self.last = last[:1]
        return Tokens(tokens)
