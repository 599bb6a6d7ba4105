"""Stage 1 of ALIT (arXiv 2411.02393): all passes learn to draw what a trained tokenizer makes of the image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from photophone.core.noise import GlobalNoise
from photophone.data.images import ImageDataset
from photophone.tokenizers.alit.model import ALIT
from photophone.tokenizers.kl_vae.model import KLVAE
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN
from photophone.training.tasks.image_tokenizer import ImageTokenizerTask, ReconstructionWeights


def teacher_sizes(teacher: MaskGITVQGAN | KLVAE) -> dict[str, Any]:
    """Arguments of :class:`ALIT` that follow from the tokenizer that it reads."""
    own = {name: value for name, value in teacher.config.items() if not name.startswith("_") and name != "image_size"}
    return {"base": "vqgan" if isinstance(teacher, MaskGITVQGAN) else "kl", "base_config": own}


class Distillation(nn.Module):
    """A tokenizer whose forward is the loss of stage 1."""

    def __init__(self, tokenizer: ALIT) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, images: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """See :meth:`photophone.tokenizers.alit.model.ALIT.distillation`; cells rest by chance, as published."""
        return self.tokenizer.distillation(images, GlobalNoise(images.device))


class DistillationTask(ImageTokenizerTask):
    """Images to the teacher's codes or latents of them, through the tokens of one pass, of two, and so on.

    Args:
        model: a tokenizer; its own ``base`` gets the teacher's weights, which stay as they are.
        teacher: a trained tokenizer of the sizes of :func:`teacher_sizes`.
        data: training images.
        validation: held-apart images, or None.
        flip: probability of mirroring an example.
        quantize_from: see :class:`photophone.training.tasks.image_tokenizer.ReconstructionWeights`.
    """

    def __init__(self, model: ALIT, teacher: MaskGITVQGAN | KLVAE, data: ImageDataset,
                 validation: ImageDataset | None = None, flip: float = 0.5, quantize_from: int | None = None) -> None:
        super().__init__(model, data, validation, ReconstructionWeights(flip=flip, quantize_from=quantize_from))
        model.base.load_state_dict(teacher.state_dict())
        model.base.requires_grad_(False)
        self.model = Distillation(model)

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        if self.weights.quantize_from is not None:
            self.start_quantizing(batch["images"], step)
        loss, parts = model(batch["images"])
        name = "nll" if "nll" in parts[0] else "code"
        counts = self.tokenizer.token_counts
        return loss, {f"{name}_{count}_tokens": part[name].detach() for count, part in zip(counts, parts, strict=True)}
