"""The backbone of Vocos (arXiv 2306.00814), which WavTokenizer, FocalCodec and BiCodec also decode with."""

from __future__ import annotations

from torch import Tensor, nn

from photophone.layers.convnext import NORM_EPS, ConvNeXtBlock, apply_norm, frame_conv, frame_norm
from photophone.layers.lengths import keep_valid
from photophone.layers.pos_net import PosNet


class VocosBackbone(nn.Module):
    """A convolution, a norm, ConvNeXt blocks and a norm: (B, in_channels, T) to frames (B, T, width).

    The names of the parts are those of the official code.

    Args:
        in_channels: of the input.
        width: channels of the blocks.
        hidden: channels inside their MLPs.
        depth: blocks.
        kernel_size: of all convolutions over time.
        causal: they see the past only, and can stream.
        layer_scale: initial scale of the branches; ``1 / depth`` when None.
        num_conditions: the norms in front of and in the blocks follow the number of a condition (WavTokenizer, and
            Vocos on EnCodec's tokens).
        condition_dim: they follow a vector of this width (BiCodec).
        attention: put a :class:`PosNet` in front of the blocks (WavTokenizer); not with ``causal``.
    """

    def __init__(self, in_channels: int, width: int, hidden: int, depth: int, *, kernel_size: int = 7,
                 causal: bool = False, layer_scale: float | None = None, num_conditions: int | None = None,
                 condition_dim: int | None = None, attention: bool = False) -> None:
        super().__init__()
        if causal and attention:
            raise ValueError("attention=True sees the whole clip and cannot be causal")
        self.conditional = num_conditions is not None or condition_dim is not None
        self.embed = frame_conv(in_channels, width, kernel_size, causal=causal)
        self.pos_net = PosNet(width) if attention else None
        self.norm = frame_norm(width, num_conditions, condition_dim)
        scale = 1 / depth if layer_scale is None else layer_scale
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(width, hidden, kernel_size, causal=causal, layer_scale=scale,
                          num_conditions=num_conditions, condition_dim=condition_dim) for _ in range(depth))
        self.final_layer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        for module in (self.embed, *(part for block in self.convnext for part in block.children())):
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Frames of ``x``.

        Args:
            x: (B, in_channels, T).
            condition: Long (B,) or (1,), or float (B, condition_dim), where the backbone has one.
            mask: Bool (B, T), False where a row has ended; what lies there is not seen, and comes out meaningless.

        Raises:
            ValueError: a condition is missing, or there is one too many.
        """
        if self.conditional != (condition is not None):
            raise ValueError("this backbone needs a condition" if self.conditional else
                             "this backbone takes no condition")
        x = self.embed(keep_valid(x, mask))
        if self.pos_net is not None:
            x = self.pos_net(x, mask)
        x = apply_norm(self.norm, x, condition)
        for block in self.convnext:
            x = block(x, condition, mask)
        return apply_norm(self.final_layer_norm, x, None).transpose(1, 2)
