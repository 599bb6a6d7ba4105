"""Image tasks from the settings of a config: what the training scripts run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from photophone.core.tokens import Tokens
from photophone.data.images import ImageDataset
from photophone.generators.conditions import CaptionIds, condition_kinds
from photophone.generators.few_steps import without_flow_map
from photophone.loading.saved import open_saved
from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.text.captions import train_caption_tokenizer
from photophone.tokenizers.alit.model import ALIT
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.kl_vae.model import KLVAE
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN
from photophone.tokenizers.titok.model import TiTok
from photophone.training.loop.config import TrainConfig
from photophone.training.losses.adversary import Adversary
from photophone.training.losses.alignment import Alignment
from photophone.training.losses.discriminators import augment, build_discriminator
from photophone.training.losses.feature_networks import build_feature_network
from photophone.training.losses.image import PerceptualLoss, WeightedSum
from photophone.training.tasks.alit_distillation import DistillationTask, teacher_sizes
from photophone.training.tasks.image_conditions import Captions, build_condition, load_captions
from photophone.training.tasks.image_generator import ImageGeneratorTask, token_sizes
from photophone.training.tasks.image_tokenizer import ImageTokenizerTask, ReconstructionWeights
from photophone.training.tasks.models import GENERATORS, TOKENIZERS, build_model, choose_class
from photophone.training.tasks.titok_stage_one import StageOneTask


def build_perceptual(settings: Any) -> PerceptualLoss | WeightedSum:
    """From ``network`` (a name, or a mapping of it) and ``compare``, or from the name alone; or from a list of such
    mappings with a ``weight`` each."""
    if isinstance(settings, list):
        return WeightedSum([(float(dict(part).get("weight", 1.0)), build_perceptual(
            {key: value for key, value in dict(part).items() if key != "weight"})) for part in settings])
    options = {"network": settings} if isinstance(settings, str) else dict(settings)
    network = options.pop("network", "efficientnet_lite0")
    chosen = {"name": network} if isinstance(network, str) else network
    # the maps of LPIPS are normalised, and logits count as they are
    own = "mean" if chosen.get("classes") else "unit"
    options.setdefault("compare", "sum" if chosen.get("name") == "lpips" else own)
    return PerceptualLoss(build_feature_network(network), **options)


def build_adversary(settings: dict[str, Any], image_size: int) -> Adversary:
    """From ``lecam``, ``lecam_of_means``, ``consistency``, ``augment`` (a bool) and the settings of one
    discriminator."""
    options = dict(settings)
    lecam, consistency = float(options.pop("lecam", 0.0)), float(options.pop("consistency", 0.0))
    view = augment if options.pop("augment", bool(consistency)) else None
    means = bool(options.pop("lecam_of_means", False))
    return Adversary([build_discriminator(options, image_size)], lecam=lecam, lecam_of_means=means,
                     consistency=consistency, augment=view)


def build_alignment(settings: dict[str, Any], model: ImageTokenizer) -> Alignment:
    """From ``network`` and the further arguments of :class:`Alignment`."""
    options = dict(settings)
    network = build_feature_network(options.pop("network", "efficientnet_lite0"))
    return Alignment(network, model.values_dim, model.image_size, **options)


def caption_vocabulary(data: ImageDataset, size: int, length: int) -> CaptionTokenizer:
    """A vocabulary learned from the captions and tags of the training images."""
    texts = [text for fields in data.fields for text in (fields["caption"], fields["tags"]) if text]
    return train_caption_tokenizer(texts, size, length)


def image_tokenizer_task(config: TrainConfig) -> ImageTokenizerTask | StageOneTask:
    """The task of ``train_image_tokenizer.py``.

    ``task`` holds the fields of :class:`ReconstructionWeights`, and beside them: ``networks`` with ``perceptual``,
    ``discriminator`` and ``alignment``; ``freeze_encoder``; ``condition`` with ``text_encoder`` and ``length``, the
    captions that TA-TiTok's decoder reads; ``teacher`` (folder of the tokenizer that stage 1 of TiTok or ALIT learns
    from); ``pixel_decoder`` (folder of TiTok's teacher: stage 2).

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings = dict(config.task)
    networks = dict(settings.pop("networks", None) or {})
    freeze, teacher, pixels = (settings.pop(name, None) for name in ("freeze_encoder", "teacher", "pixel_decoder"))
    if unknown := set(networks) - {"perceptual", "discriminator", "alignment"}:
        raise ValueError(f"networks: unknown {sorted(unknown)}; known are perceptual, discriminator and alignment")
    condition = load_captions(settings.pop("condition")) if "condition" in settings else None
    taught = open_teacher(teacher, config) if teacher else None
    data = ImageDataset(config.data)
    validation = ImageDataset(config.validation) if config.validation else None
    sizes = {} if condition is None else condition.sizes
    if isinstance(taught, MaskGITVQGAN | KLVAE):
        sizes |= teacher_sizes(taught)
    model = build_model(config.model, TOKENIZERS, "latent1d", init_from=config.init_from, sizes=sizes)
    if data.images.shape[1] != model.image_size:
        raise ValueError(f"{config.data} holds images of {data.images.shape[1]} pixels, the model takes "
                         f"{model.image_size}; prepare the data with --size {model.image_size}")
    if taught is not None:
        return stage_one_task(model, taught, data, validation, settings)
    if pixels:
        if not isinstance(model, TiTok):
            raise ValueError(f"pixel_decoder belongs to TiTok, the model is a {type(model).__name__}")
        model = model.with_pixel_decoder(open_saved(pixels, MaskGITVQGAN))
    weights = ReconstructionWeights(**settings)
    parts: dict[str, Any] = {} if condition is None else {"condition": condition}
    if weights.perceptual.weight:
        parts["perceptual"] = build_perceptual(networks.get("perceptual", "efficientnet_lite0"))
    if weights.adversarial.weight or weights.features.weight:
        parts["adversary"] = build_adversary(networks.get("discriminator", {}), model.image_size)
    if weights.alignment.weight:
        parts["alignment"] = build_alignment(networks.get("alignment", {}), model)
    if weights.contrastive.weight:
        parts["text_tokenizer"] = contrastive_vocabulary(model, data)
    return ImageTokenizerTask(model, data, validation, weights, bool(freeze), **parts)


def open_teacher(folder: str, config: TrainConfig) -> ImageTokenizer:
    """The saved tokenizer that a first stage learns from.

    Raises:
        ValueError: a model that has no such stage, or no tokenizer there.
    """
    if config.init_from is None:
        model_class, _ = choose_class(config.model, TOKENIZERS, "latent1d")
        if not issubclass(model_class, TiTok | ALIT):
            raise ValueError(f"teacher and pixel_decoder belong to TiTok, a teacher also to ALIT; the model is a "
                             f"{model_class.__name__}")
    return open_saved(folder, ImageTokenizer)


def stage_one_task(model: ImageTokenizer, teacher: ImageTokenizer, data: ImageDataset, validation: ImageDataset | None,
                   settings: dict[str, Any]) -> ImageTokenizerTask | StageOneTask:
    """The first stage of TiTok or of ALIT; ``settings`` are further arguments of its task.

    Raises:
        ValueError: a model that has no such stage, or another teacher than it learns from.
    """
    if isinstance(model, ALIT) and isinstance(teacher, MaskGITVQGAN | KLVAE):
        return DistillationTask(model, teacher, data, validation, **settings)
    if isinstance(model, TiTok) and "proxy_codes" in model.config and isinstance(teacher, MaskGITVQGAN):
        return StageOneTask(model, teacher, data, validation, **settings)
    raise ValueError(f"teacher: a MaskGITVQGAN teaches TiTok and ALIT, and a KLVAE teaches ALIT, not a "
                     f"{type(teacher).__name__} a {type(model).__name__}")


def contrastive_vocabulary(model: ImageTokenizer, data: ImageDataset) -> CaptionTokenizer:
    """A vocabulary that leaves the model's last id for the end of a caption."""
    if not model.reads_captions:
        raise ValueError(f"contrastive: {type(model).__name__} reads no captions; use the family unitok-clip")
    return caption_vocabulary(data, model.config.text_vocab_size - 1, model.caption_length - 1)


def image_generator_task(config: TrainConfig) -> ImageGeneratorTask:
    """The task of ``train_image_generator.py``.

    ``task`` holds ``tokens`` (a file of ``tokenize_dataset.py``), ``image_tokenizer`` (the folder of the tokenizer that
    made them), ``condition`` (see :func:`photophone.training.tasks.image_conditions.build_condition`; not for
    flow-ar, whose captions have ``keep_caption``), and further arguments of :class:`ImageGeneratorTask`.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings = dict(config.task)
    for name in ("tokens", "image_tokenizer"):
        if name not in settings:
            raise ValueError(f"task: the setting {name!r} is missing")
    data, tokens = ImageDataset(config.data), Tokens.load(settings.pop("tokens"))
    tokenizer = open_saved(settings.pop("image_tokenizer"), ImageTokenizer)
    validation = ImageDataset(config.validation) if config.validation else None
    folder = Path(config.init_from) / "token_generator" if config.init_from else None
    if folder is not None:
        model = without_flow_map(build_model(config.model, GENERATORS, "flow-ar", init_from=folder))
        model_class = type(model)
    else:
        model_class, _ = choose_class(config.model, GENERATORS, "flow-ar")
    chosen, keep = settings.pop("condition", None) or {}, settings.pop("keep_caption", 0.6)
    learns_vocabulary = CaptionIds in condition_kinds(model_class.Condition)  # of a size that the model has
    condition = None if learns_vocabulary else build_condition(chosen, model_class, data)
    if folder is None:
        sizes = token_sizes(tokenizer, model_class) | (condition.sizes if condition else {})
        model = build_model(config.model, GENERATORS, "flow-ar", sizes=sizes)
        model.fit_statistics(tokens)
    if condition is None:
        condition = Captions(caption_tokenizer(config, model, data), keep)
    return ImageGeneratorTask(model, condition, data, tokens, image_tokenizer=tokenizer, validation=validation,
                              **settings)


def caption_tokenizer(config: TrainConfig, model: Any, data: ImageDataset) -> CaptionTokenizer:
    """The vocabulary of the model that training starts from, or a new one."""
    if config.init_from:
        return CaptionTokenizer.from_pretrained(Path(config.init_from) / "text_tokenizer")
    return caption_vocabulary(data, model.config.vocab_size, model.config.max_text_length)
