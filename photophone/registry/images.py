"""Image tokenizers and image generators: the data of the registry."""

from __future__ import annotations

from typing import Any

from photophone.registry.entry import AS_CODE, OWN, Chain, ModelEntry

LATENT1D = {"kind": "image_tokenizer", "target": "photophone.tokenizers.latent1d:Latent1DTokenizer",
            "paper": "in the line of arXiv 2501.07730 and 2412.10958", **OWN}
FLOW_AR = {"kind": "generator", "target": "photophone.generators.flow_ar:FlowARGenerator",
           "paper": "in the line of arXiv 2406.11838 and 2502.20388", **OWN}
CELL_HEAD = {"width": 192, "depth": 3, "num_heads": 3, "batch_mul": 4, "time_distribution": "logit_normal"}
MLP_HEAD = {"width": 384, "depth": 3, "batch_mul": 4, "time_distribution": "logit_normal"}

LLAMAGEN_VQ = {"kind": "image_tokenizer", "target": "photophone.tokenizers.llamagen_vq:LlamaGenVQ",
               "paper": "2406.06525", "code_licence": "MIT",
               "tiny": {"image_size": 32, "channels": 32, "multipliers": [1, 2], "blocks": 1, "z_channels": 32,
                        "num_codes": 64}}
LLAMAGEN_VQ16 = {"image_size": 256, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "z_channels": 256,
                 "token_width": 8, "num_codes": 16384, "l2_norm": True}
VAR_VQ = {"kind": "image_tokenizer", "target": "photophone.tokenizers.var_vq:VARTokenizer", "paper": "2404.02905",
          "code_licence": "MIT", "weights_licence": f"{AS_CODE}; trained on OpenImages",
          "hub_id": "FoundationVision/var", "files": ("vae_ch160v4096z32.pth",),
          "tiny": {"image_size": 32, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "token_width": 8,
                   "num_codes": 64, "scales": [1, 2, 4, 8]}}
VAR_VQ16 = {"channels": 160, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "token_width": 32, "num_codes": 4096,
            "num_phis": 4}
TITOK = {"kind": "image_tokenizer", "target": "photophone.tokenizers.titok:TiTok", "paper": "2406.07550",
         "code_licence": "Apache-2.0", "weights_licence": "Apache-2.0; trained on ImageNet, for research",
         "tiny": {"image_size": 32, "num_tokens": 8, "token_width": 6, "num_codes": 2048, "encoder_size": [64, 1, 2],
                  "decoder_size": [64, 1, 2], "encoder_patch": 8, "decoder_patch": 2, "proxy_codes": 48,
                  "proxy_decoder": {"channels": 64, "multipliers": [1, 1], "blocks": 1, "token_width": 8}}}
TITOK_TINY_PIXELS = {**TITOK["tiny"], "decoder_patch": 8, "proxy_codes": None, "proxy_decoder": None}
TITOK_SIZES = {"s": [512, 8, 8], "b": [768, 12, 12], "l": [1024, 24, 16]}


def _titok(name: str, encoder: str, decoder: str, tokens: int, codes: int | None, width: int,
           legacy: bool = False) -> ModelEntry:
    """A published TiTok; ``legacy`` is the two-stage model."""
    config = {"num_tokens": tokens, "num_codes": codes, "token_width": width, "l2_norm": legacy,
              "encoder_size": TITOK_SIZES[encoder], "decoder_size": TITOK_SIZES[decoder]}
    kind = f"{tokens} Gaussian tokens of {width} dimensions" if codes is None else f"{tokens} codes of {codes:,}"
    options = dict(TITOK)
    if not legacy:
        config |= {"scrambles_latents": False, "proxy_codes": None, "proxy_decoder": None}
        options["tiny"] = {**TITOK_TINY_PIXELS, "l2_norm": True, "num_codes": None if codes is None else 2048}
    return ModelEntry(name, summary=f"256x256 pixels to {kind}{'; two-stage' if legacy else ''}", config=config,
                      hub_id=f"yucornetto/tokenizer_{name.replace('-', '_')}_imagenet", files=("model.safetensors",),
                      **options)


SOFTVQ = {"kind": "image_tokenizer", "target": "photophone.tokenizers.softvq:SoftVQTokenizer",
          "code_licence": "Apache-2.0 as the model classes state, no licence file",
          "weights_licence": "Apache-2.0 as the hub repository states; trained on ImageNet",
          "files": ("model.safetensors",)}
SOFTVQ_TINY = {"image_size": 32, "num_tokens": 8, "token_width": 6, "encoder_size": [64, 1, 2],
               "decoder_size": [64, 1, 2], "encoder_patch": 8, "decoder_patch": 8, "layer_scale": 1.0}
VIT_SIZES = {"b": [768, 12, 12], "l": [1024, 24, 16]}


def _softvq(sizes: str, tokens: int, image_size: int = 256) -> ModelEntry:
    """A published SoftVQ-VAE; ``sizes`` are the letters of its encoder and decoder."""
    name = f"softvq-{sizes}-{tokens}" + ("" if image_size == 256 else f"-{image_size}")
    config = {"image_size": image_size, "num_tokens": tokens, "encoder_size": VIT_SIZES[sizes[0]],
              "decoder_size": VIT_SIZES[sizes[-1]]}
    return ModelEntry(name, summary=f"{image_size}x{image_size} pixels to {tokens} soft mixtures of codewords",
                      paper="2412.10958", config=config, hub_id=f"SoftVQVAE/{name}", **SOFTVQ,
                      tiny={**SOFTVQ_TINY, "num_codewords": 32, "num_codebooks": 2})


def _maetok(image_size: int) -> ModelEntry:
    """A published MAETok; which position codes its weights have is inferred from the code."""
    name = "maetok-b-128" if image_size == 256 else f"maetok-b-{image_size}"
    config = {"image_size": image_size, "num_tokens": 128, "kind": "none", "encoder_size": VIT_SIZES["b"],
              "decoder_size": VIT_SIZES["b"], "rope_theta": 10.0, "drop_patches": [0.4, 0.6]}
    return ModelEntry(name, summary=f"{image_size}x{image_size} pixels to 128 continuous tokens of 32 dimensions",
                      paper="2502.03444", config=config, hub_id=f"MAETok/{name}", **SOFTVQ, tiny=SOFTVQ_TINY)


TITOK_GENERATOR = {"kind": "generator", "paper": "2406.07550", "code_licence": "Apache-2.0",
                   "weights_licence": TITOK["weights_licence"], "files": ("model.safetensors",),
                   "tiny": {"num_tokens": 8, "num_codes": 32, "num_classes": 10, "width": 32, "depth": 2,
                            "num_heads": 2, "hidden": 64}}
IMAGE_BERT = {**TITOK_GENERATOR, "target": "photophone.generators.masked_image:ImageBert"}
UVIT_BERT = {**TITOK_GENERATOR, "target": "photophone.generators.masked_image:UViTBert"}


def _titok_generator(size: str, options: dict[str, Any], **sampler: Any) -> ModelEntry:
    """The published generator of a legacy TiTok."""
    tokens = int(size[1:])
    return ModelEntry(f"titok-{size}-generator", summary=f"ImageNet classes to the {tokens} tokens of titok-{size}",
                      config={"num_tokens": tokens}, hub_id=f"yucornetto/generator_titok_{size}_imagenet",
                      chain=Chain({"generator": f"titok-{size}-generator", "tokenizer": f"titok-{size}"}, sampler),
                      **options)


DIT_TINY = {"num_tokens": 8, "token_dim": 6, "num_classes": 10, "width": 32, "depth": 2, "num_heads": 2}


def _dit(family: str, tokenizer: str, num_tokens: int, hub: str, paper: str) -> ModelEntry:
    """A published SiT or DiT of size XL on the tokens of a tokenizer."""
    return ModelEntry(f"{family.lower()}-xl-{tokenizer}", "generator", f"photophone.generators.sit:{family}",
                      f"ImageNet classes to the tokens of {tokenizer}; token_mean and token_std stand as vq_mean and "
                      "vq_std in its config.json", paper, SOFTVQ["code_licence"], SOFTVQ["weights_licence"],
                      config={"num_tokens": num_tokens}, hub_id=f"{hub}/{family.lower()}-xl_{tokenizer}",
                      files=SOFTVQ["files"], tiny=DIT_TINY)


MAR = {"kind": "generator", "target": "photophone.generators.mar:MAR", "paper": "2406.11838", "code_licence": "MIT",
       "weights_licence": f"{AS_CODE}; trained on ImageNet",
       "tiny": {"num_tokens": 16, "token_dim": 4, "num_classes": 10, "encoder_width": 32, "encoder_depth": 1,
                "encoder_heads": 2, "decoder_width": 48, "decoder_depth": 1, "decoder_heads": 3, "buffer_size": 4,
                "head_width": 32, "head_depth": 1}}


MAR_SIZES = {"base": (768, 12, 12, 1024, 6), "large": (1024, 16, 16, 1280, 8), "huge": (1280, 20, 16, 1536, 12)}


def _mar_config(size: str) -> dict[str, Any]:
    width, depth, heads, head_width, head_depth = MAR_SIZES[size]
    return {"encoder_width": width, "encoder_depth": depth, "encoder_heads": heads, "decoder_width": width,
            "decoder_depth": depth, "decoder_heads": heads, "head_width": head_width, "head_depth": head_depth}


def _mar(size: str, count: str) -> ModelEntry:
    """A published MAR; its file is linked at github.com/LTH14/mar, and holds the averaged weights and others."""
    name, scale = f"mar-{size}", {"base": 2.9, "large": 3.0, "huge": 3.2}[size]
    return ModelEntry(name, **MAR, config=_mar_config(size),
                      chain=Chain({"mar": name, "vae": "mar-kl16"}, {
                          "num_inference_steps": 256, "head_steps": 100, "guidance_scale": scale}),
                      summary=f"ImageNet classes to the tokens of mar-kl16, {count}; checkpoint-last.pth of mar_{size} "
                      "is linked at github.com/LTH14/mar")


def _cspd(target: str, draft: str) -> ModelEntry:
    """Two published MARs, the smaller of which proposes tokens."""
    tiny = {name: value // 2 if name.endswith("width") else value for name, value in MAR["tiny"].items()}
    return ModelEntry(f"mar-{target}-cspd-{draft}", "generator", "photophone.generators.cspd:SpeculativeMAR",
                      f"mar-{target} with mar-{draft} as its draft: continuous speculative decoding", "2411.11925",
                      "MIT", MAR["weights_licence"],
                      config={"target_config": _mar_config(target), "draft_config": _mar_config(draft)},
                      chain=Chain({"target": f"mar-{target}", "draft": f"mar-{draft}", "vae": "mar-kl16"}, {
                          "num_inference_steps": 256, "num_draft_steps": 4, "prefill": 0.05, "head_steps": 100,
                          "guidance_scale": 4.0, "guidance_schedule": "constant"}),
                      tiny={"target_config": MAR["tiny"], "draft_config": tiny})


XAR = {"kind": "generator", "target": "photophone.generators.xar:XAR", "paper": "2502.20388",
       "code_licence": "none stated (the repository has no licence file); ours is written anew under Apache-2.0",
       "weights_licence": "none stated; trained on ImageNet", "hub_id": "OliverRen/xAR",
       "tiny": {"grid_size": 4, "token_dim": 4, "num_classes": 10, "width": 32, "encoder_depth": 1,
                "encoder_heads": 2, "decoder_depth": 1, "decoder_heads": 4}}


def _xar(size: str, count: str, width: int, depth: int, heads: int) -> ModelEntry:
    """A published xAR, whose halves have the same sizes."""
    steps, scale = {"base": (40, 2.7), "large": (50, 2.3), "huge": (50, 2.2)}[size]
    return ModelEntry(f"xar-{size}", **XAR, files=(f"xAR-{size[0].upper()}.pth",),
                      chain=Chain({"xar": f"xar-{size}", "vae": "mar-kl16"}, {
                          "num_inference_steps": steps, "guidance_scale": scale}),
                      summary=f"ImageNet classes to the tokens of mar-kl16 in four cells, {count}",
                      config={"width": width, "encoder_depth": depth, "encoder_heads": heads, "decoder_depth": depth,
                              "decoder_heads": heads})


VAR = {"kind": "generator", "target": "photophone.generators.var:VAR", "paper": "2404.02905", "code_licence": "MIT",
       "weights_licence": f"{AS_CODE}; trained on ImageNet", "hub_id": "FoundationVision/var",
       "tiny": {"scales": [1, 2, 4], "token_width": 8, "num_codes": 64, "num_classes": 10, "width": 32, "depth": 2,
                "num_heads": 2}}
LLAMAGEN = {"kind": "generator", "target": "photophone.generators.llamagen_gpt:LlamaGenGPT", "paper": "2406.06525",
            "code_licence": "MIT"}
LLAMAGEN_TINY = {"grid_size": 4, "num_codes": 64, "width": 32, "depth": 2, "num_heads": 2, "hidden_multiple": 32}
LLAMAGEN_SIZES = {"b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1280, 36, 20), "xxl": (1536, 48, 24),
                  "3b": (3200, 24, 32)}


def _var(depth: int, count: str, pixels: int = 256, **config: Any) -> ModelEntry:
    """A published VAR, whose width and heads follow from its depth."""
    return ModelEntry(f"var-d{depth}", **VAR, files=(f"var_d{depth}.pth",),
                      chain=Chain({"var": f"var-d{depth}", "vae": f"var-vq16-{pixels}"}, {
                          "guidance_scale": 2.5, "top_k": 900, "top_p": 0.96}),
                      summary=f"ImageNet classes to the codes of var-vq16-{pixels}, {count}",
                      config={"width": 64 * depth, "depth": depth, "num_heads": depth, **config})


def _llamagen(size: str, pixels: int, caption: str | None = None) -> ModelEntry:
    """A published LlamaGen GPT; ``caption`` is the stage of a text-conditional one."""
    width, depth, heads = LLAMAGEN_SIZES[size]
    config = {"grid_size": pixels // 16, "width": width, "depth": depth, "num_heads": heads}
    if caption is None:
        scale = {"b": 2.0, "l": 2.0, "xl": 1.75, "xxl": 1.75, "3b": 1.65}[size]
        return ModelEntry(f"llamagen-{size}-{pixels}", **LLAMAGEN, config=config, hub_id="FoundationVision/LlamaGen",
                          chain=Chain({"gpt": f"llamagen-{size}-{pixels}", "vq": "llamagen-vq16-c2i"},
                                      {"guidance_scale": scale, "top_k": 0}, {"image_size": pixels}),
                          summary=f"ImageNet classes to the codes of llamagen-vq16-c2i at {pixels} pixels",
                          weights_licence=f"{AS_CODE}; trained on ImageNet", files=(f"c2i_{size.upper()}_{pixels}.pt",),
                          tiny={**LLAMAGEN_TINY, "num_classes": 10})
    return ModelEntry(f"llamagen-{size}-t2i-{pixels}", **LLAMAGEN, config={**config, "caption_dim": 2048},
                      chain=Chain({"gpt": f"llamagen-{size}-t2i-{pixels}", "vq": "llamagen-vq16-t2i"},
                                  {"guidance_scale": 7.5, "top_k": 1000}, {"image_size": pixels}, "google/flan-t5-xl",
                                  "TextToImagePipeline"),
                      summary=f"flan-t5-xl captions to the codes of llamagen-vq16-t2i at {pixels} pixels",
                      weights_licence=f"{AS_CODE}; trained on LAION-COCO and internal images",
                      hub_id="peizesun/llamagen_t2i", files=(f"t2i_{size.upper()}_{caption}_{pixels}.pt",),
                      tiny={**LLAMAGEN_TINY, "caption_dim": 12, "caption_length": 6})


ENTRIES = [
    ModelEntry("photophone/tiny-image", "pipeline", "photophone.pipelines.text_to_image:TextToImagePipeline",
               "captions to 64x64 images: icons, emoji, pixel art; ships in the wheel",
               "in the line of arXiv 2406.11838 and 2502.20388", "Apache-2.0",
               "Apache-2.0 (training data: CC0, MIT, Apache-2.0, CC BY 4.0, BSD-2-Clause; see the model card)",
               folder="tiny-image", chain=Chain({}, {"num_inference_steps": 20, "guidance_scale": 3.0})),
    ModelEntry("latent1d-tiny-c32", summary="64x64 pixels to 16 continuous tokens of 32 dimensions",
               config={"encoder_channels": [48, 96], "decoder_channels": [128, 64]}, **LATENT1D),
    ModelEntry("latent1d-tiny-fsq", summary="64x64 pixels to 32 codes of 64,000 (FSQ)",
               config={"num_tokens": 32, "token_dim": 6, "quantizer": "fsq",
                       "quantizer_config": {"levels": [8, 8, 8, 5, 5, 5]}}, **LATENT1D),
    ModelEntry("latent1d-tiny-vq", summary="64x64 pixels to 32 codes of 4,096 (VQ with an averaged codebook)",
               config={"num_tokens": 32, "token_dim": 16, "quantizer": "vq",
                       "quantizer_config": {"codebook_size": 4096, "ema_decay": 0.99}}, **LATENT1D),
    ModelEntry("latent1d-tiny-softvq", summary="64x64 pixels to 16 soft mixtures of codewords (SoftVQ)",
               config={"quantizer": "soft_vq", "quantizer_config": {"num_codewords": 2048, "num_codebooks": 4}},
               **LATENT1D),
    ModelEntry("latent1d-vit-c32", summary="the same as a plain ViT on patches of 8",
               config={"stem": "patch", "patch": 8, "encoder_depth": 4, "decoder_depth": 4}, **LATENT1D),
    ModelEntry("flowar-tiny-joint", summary="all 16 tokens as one cell, local-DiT flow head",
               config={"order": "next_x", "cell_size": 16, "head": "local_dit",
                       "head_config": {**CELL_HEAD, "cell_size": 16}}, **FLOW_AR),
    ModelEntry("flowar-tiny-cells", summary="next-X over cells of 4 tokens, local-DiT flow head",
               config={"order": "next_x", "cell_size": 4, "head": "local_dit",
                       "head_config": {**CELL_HEAD, "cell_size": 4}}, **FLOW_AR),
    ModelEntry("flowar-tiny-raster", summary="token by token, flow MLP head",
               config={"order": "raster", "head": "flow", "head_config": MLP_HEAD}, **FLOW_AR),
    ModelEntry("flowar-tiny-random", summary="masked in random order (MAR), flow MLP head",
               config={"order": "random", "head": "flow", "head_config": MLP_HEAD}, **FLOW_AR),
    ModelEntry("llamagen-vq16-c2i", summary="256x256 pixels to 256 codes of 16,384; trained on ImageNet",
               config=LLAMAGEN_VQ16, weights_licence=f"{AS_CODE}; trained on ImageNet",
               hub_id="FoundationVision/LlamaGen", files=("vq_ds16_c2i.pt",), **LLAMAGEN_VQ),
    ModelEntry("llamagen-vq16-t2i", summary="256x256 pixels to 256 codes of 16,384; for text to image, also at 512",
               config=LLAMAGEN_VQ16, weights_licence=f"{AS_CODE}; trained on LAION-COCO and internal images",
               hub_id="peizesun/llamagen_t2i", files=("vq_ds16_t2i.pt",), **LLAMAGEN_VQ),
    ModelEntry("llamagen-vq8-c2i", summary="256x256 pixels to 1,024 codes of 16,384; trained on ImageNet",
               config={**LLAMAGEN_VQ16, "multipliers": [1, 2, 2, 4]}, weights_licence=f"{AS_CODE}; trained on ImageNet",
               hub_id="FoundationVision/LlamaGen", files=("vq_ds8_c2i.pt",), **LLAMAGEN_VQ),
    ModelEntry("maskgit-vqgan-f16", "image_tokenizer", "photophone.tokenizers.maskgit_vqgan:MaskGITVQGAN",
               "256x256 pixels to 256 codes of 1,024; TiTok's teacher and RAR's tokenizer", "2202.04200", "Apache-2.0",
               "Apache-2.0; trained on ImageNet, for research",
               config={"image_size": 256, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2,
                       "token_width": 256, "num_codes": 1024, "residual_drops_input": True},
               hub_id="fun-research/TiTok", files=("maskgit-vqgan-imagenet-f16-256.bin",),
               tiny={"image_size": 32, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "token_width": 16,
                     "num_codes": 64}),
    ModelEntry("mar-kl16", "image_tokenizer", "photophone.tokenizers.kl_vae:KLVAE",
               "256x256 pixels to 256 continuous tokens of 16 dimensions; kl16.ckpt is linked at github.com/LTH14/mar",
               "2406.11838", "MIT", f"{AS_CODE}; trained on ImageNet",
               config={"image_size": 256, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2,
                       "latent_width": 16, "encoder_attention_levels": [4], "scaling": 0.2325},
               tiny={"image_size": 32, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "latent_width": 4,
                     "encoder_attention_levels": [2]}),
    ModelEntry("var-vq16-256", summary="256x256 pixels to 680 codes of 4,096 on ten scales", **VAR_VQ,
               config={**VAR_VQ16, "image_size": 256, "scales": [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]}),
    ModelEntry("var-vq16-512", summary="512x512 pixels to 2,240 codes of 4,096 on ten scales", **VAR_VQ,
               config={**VAR_VQ16, "image_size": 512, "scales": [1, 2, 3, 4, 6, 9, 13, 18, 24, 32]}),
    _mar("base", "208M parameters"), _mar("large", "478M parameters"), _mar("huge", "942M parameters"),
    _cspd("large", "base"), _cspd("huge", "base"),
    _xar("base", "173M parameters", 768, 8, 12),
    _xar("large", "608M parameters", 1024, 16, 16),
    _xar("huge", "1.19B parameters", 1280, 20, 16),
    _titok("titok-l32", "l", "l", 32, 4096, 12, legacy=True),
    _titok("titok-b64", "b", "b", 64, 4096, 12, legacy=True),
    _titok("titok-s128", "s", "s", 128, 4096, 12, legacy=True),
    _titok("titok-bl64-vq8k", "b", "l", 64, 8192, 64),
    _titok("titok-bl128-vq8k", "b", "l", 128, 8192, 64),
    _titok("titok-sl256-vq8k", "s", "l", 256, 8192, 64),
    _titok("titok-ll32-vae-c16", "l", "l", 32, None, 16),
    _titok("titok-bl64-vae-c16", "b", "l", 64, None, 16),
    _titok("titok-bl128-vae-c16", "b", "l", 128, None, 16),
    *(_softvq(sizes, tokens) for tokens in (64, 32) for sizes in ("l", "bl", "b")),
    _softvq("bl", 64, 512), _softvq("l", 32, 512), _maetok(256), _maetok(512),
    ModelEntry("unitok", "image_tokenizer", "photophone.tokenizers.unitok:UniTok",
               "256x256 pixels to 256 tokens of 8 codes of 4,096; UniTokCLIP adds the contrastive head", "2502.20321",
               "MIT", f"{AS_CODE}; trained on DataComp-1B", hub_id="FoundationVision/unitok_tokenizer",
               files=("unitok_tokenizer.pth",),
               tiny={"image_size": 32, "widths": [8, 16, 64], "stem_width": 8, "conv_depths": [1, 1], "depth": 1,
                     "num_heads": 2, "decoder_widths": [64, 16, 8], "decoder_depths": [1, 1], "token_width": 16,
                     "num_codebooks": 4, "num_codes": 512}),
    _titok_generator("l32", IMAGE_BERT, num_inference_steps=8, temperature=9.5, guidance_scale=4.5),
    _titok_generator("b64", IMAGE_BERT, num_inference_steps=8, temperature=11.0, guidance_scale=3.0),
    _titok_generator("s128", UVIT_BERT, num_inference_steps=64, temperature=2.8, guidance_scale=6.9,
                     guidance_schedule="power-cosine", guidance_power=3.0),
    *(_dit(family, f"softvq-{sizes}-{tokens}", tokens, "SoftVQVAE", "2412.10958") for family in ("SiT", "DiT")
      for tokens in (64, 32) for sizes in ("l", "bl", "b")),
    _dit("SiT", "maetok-b-128", 128, "MAETok", "2502.03444"),
    _dit("SiT", "maetok-b-128-512", 128, "MAETok", "2502.03444"),
    _var(16, "310M parameters"), _var(20, "600M parameters"), _var(24, "1.0B parameters"),
    _var(30, "2.0B parameters"),
    _var(36, "2.3B parameters", 512, shared_adaln=True, scales=[1, 2, 3, 4, 6, 9, 13, 18, 24, 32]),
    _llamagen("b", 256), _llamagen("b", 384), _llamagen("l", 256), _llamagen("l", 384), _llamagen("xl", 384),
    _llamagen("xxl", 384), _llamagen("3b", 384), _llamagen("xl", 256, "stage1"), _llamagen("xl", 512, "stage2"),
]
