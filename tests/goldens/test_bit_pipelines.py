"""Pipelines of BitDance and BAR from official files: the tiny ones of the goldens, and parts drawn for them."""

import json

import bar
import bitdance
import pytest
import torch
from golden import Golden
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from photophone import ClassLabels, ClassToImagePipeline, SeededNoise, TextToImagePipeline
from photophone.generators.bitdance.text import USER

DATA = bitdance.__file__.replace("bitdance.py", "data")
FAST = {"num_inference_steps": 4}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def bitdance_pipeline():
    golden = Golden(f"{DATA}/bitdance")
    model, vae = bitdance.load(golden), bitdance.tokenizer(golden, image_size=golden.settings["model"]["resolution"])
    configs = {"generator_config": dict(model.config), "tokenizer_config": dict(vae.config)}
    pipeline = ClassToImagePipeline.from_original("bitdance-b-1x", bitdance=f"{DATA}/bitdance/weights.safetensors",
                                                  **configs)
    return pipeline, model, vae


def test_bitdance_runs_from_one_file_that_holds_its_tokenizer_too():
    pipeline, model, vae = bitdance_pipeline()
    result = pipeline([1, 3], generator=seeded(3, 4), output_type="pt", **FAST)
    tokens = model.generate(ClassLabels(torch.tensor([1, 3])), noise=SeededNoise.from_seeds([3, 4]),
                            sampler=model.Sampler(guidance_scale=3.2, **FAST))
    torch.testing.assert_close(result.images, vae.decode(tokens), rtol=1e-4, atol=1e-5)
    assert result.settings["guidance_schedule"] == "linear" and result.model == "bitdance-b-1x"
    alone = pipeline(3, generator=seeded(4)[0], output_type="latent", **FAST).images
    assert torch.equal(alone.values[0], tokens.values[1])


def test_bar_runs_from_its_files(tmp_path):
    golden = Golden(f"{DATA}/bar")
    model, own = bar.load(golden), Golden(f"{DATA}/bar_tokenizer").settings
    bits, generator = model.config.token_bits, torch.Generator().manual_seed(0)
    state = load_file(f"{DATA}/bar_tokenizer/weights.safetensors")
    for part, shape in (("in_proj.weight", (bits, own["siglip"]["hidden_size"])), ("in_proj.bias", (bits,)),
                        ("out_proj.weight", (own["tiny"]["width"], bits))):  # the recorded one has other bits
        state[f"quantize.{part}"] = torch.randn(shape, generator=generator)
    torch.save(state, tmp_path / "bar_fsq_16bits_ft.bin")
    siglip, tiny = own["siglip"], own["tiny"]
    pipeline = ClassToImagePipeline.from_original(
        "bar-b", bar=f"{DATA}/bar/weights.safetensors", fsq=tmp_path / "bar_fsq_16bits_ft.bin",
        generator_config=dict(model.config), tokenizer_config={
            "image_size": own["crop_size"], "siglip_width": siglip["hidden_size"], "token_bits": bits,
            "siglip_depth": siglip["num_hidden_layers"], "siglip_heads": siglip["num_attention_heads"],
            "siglip_hidden": siglip["intermediate_size"], "siglip_positions": siglip["num_patches"],
            "width": tiny["width"], "depth": tiny["num_layers"], "num_heads": tiny["num_heads"]})
    with pytest.raises(ValueError, match=r"the steps must reveal 6 bits in all .* got \[2, 2, 5, 7\]"):
        pipeline(1, generator=seeded(1)[0])  # the published steps are those of 16 bits
    result = pipeline([1, 4], generator=seeded(1, 2), bit_steps="1,2,3", output_type="np")
    assert result.images.shape == (2, 48, 48, 3) and result.settings["guidance_scale"] == 5.0
    alone = pipeline(4, generator=seeded(2)[0], bit_steps="1,2,3", output_type="latent").images.values
    both = pipeline([1, 4], generator=seeded(1, 2), bit_steps="1,2,3", output_type="latent").images.values
    assert torch.equal(alone[0], both[1])


def qwen_folder(folder):
    """A folder as the text model is published, with the tiny weights of the golden and a vocabulary of words."""
    golden = Golden(f"{DATA}/bitdance_t2i")
    for part, name in (("llm", "model"), ("vision_head", "vision_head"), ("projector", "projector")):
        save_file(golden.state(part), folder / f"{name}.safetensors")
    settings = golden.settings["llm"]
    (folder / "config.json").write_text(json.dumps({**settings, "rope_theta": 10000.0}))
    first = golden.settings["special_base"]
    (folder / "added_tokens.json").write_text(json.dumps({
        "<|vision_start|>": first, "<|res_1|>": first + 1, "<|query_1|>": first + golden.settings["num_res"] + 1}))
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<|im_start|>": 3, "<|im_end|>": 4, "user": 5, "assistant": 6,
                                        "red": 7, "blue": 8, "circle": 9}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", additional_special_tokens=[
        "<|im_start|>", "<|im_end|>"]).save_pretrained(folder)
    (folder / "added_tokens.json").write_text(json.dumps({
        "<|vision_start|>": first, "<|res_1|>": first + 1, "<|query_1|>": first + golden.settings["num_res"] + 1}))
    return golden


def test_bitdance_draws_captions_from_a_folder(tmp_path):
    golden, vae = qwen_folder(tmp_path), bitdance.tokenizer(Golden(f"{DATA}/bitdance"), image_size=8)
    head = golden.settings["head"]
    pipeline = TextToImagePipeline.from_original(
        "bitdance-14b-16x", bitdance=tmp_path / "model.safetensors", vae=f"{DATA}/bitdance/weights.safetensors",
        text_tokenizer=tmp_path, tokenizer_config=dict(vae.config), generator_config={
            "grid": [4, 4], "token_dim": head["ch_target"], "num_codebooks": vae.config.num_codebooks, "step_side": 2,
            "head_width": head["ch_latent"], "head_depth": head["depth_latent"],
            "head_modulations": head["depth_adanln"]})
    model = pipeline.token_generator
    assert (model.config.image_start, model.config.first_query, model.config.vocab_size) == (10, 19, 24)
    condition = pipeline.encode_prompts(["red circle", "blue"])
    assert condition.mask.sum(dim=1).tolist() == [7, 6] and condition.null_ids.tolist() == [3, 6]
    assert len(condition.ids[0]) == len(pipeline.text_tokenizer(USER.format(prompt="red circle"))["input_ids"]) + 2
    both = pipeline(["red circle", "blue"], generator=seeded(1, 2), output_type="latent", **FAST)
    alone = pipeline("blue", generator=seeded(2)[0], output_type="latent", **FAST)
    assert torch.equal(both.images.values[1], alone.images.values[0]) and both.settings["guidance_scale"] == 7.5
    assert pipeline("red", generator=seeded(1)[0], **FAST).images[0].size == (8, 8)
