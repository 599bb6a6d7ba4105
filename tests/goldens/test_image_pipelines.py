"""MaskGen, HART, ELM and TokenSet from tiny official files to pictures."""

import json
import shutil
from pathlib import Path

import elm
import hart
import maskgen
import pytest
import tatitok
import tokenset
import torch
from golden import Golden
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

from photophone import ClassToImagePipeline, SeededNoise, TATiTok, TextToImagePipeline
from photophone.loading.registry import load_original
from photophone.pipelines.images import official_settings
from photophone.text.clip import PAD, caption_ids, tower_of_open_clip, tower_states

DATA = Path(__file__).parent / "data"
WORDS = ("a", "red", "blue", "circle", "square", "in", "the", "sun")


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def vocabulary(size):
    """Words of a text tower: a caption has a beginning and, last of all ids, an end."""
    entries = {"<pad>": 0, **{word: index + 1 for index, word in enumerate(WORDS)}}
    entries |= {f"<{index}>": index for index in range(len(entries), size - 2)}
    entries |= {"<start>": size - 2, "<end>": size - 1}
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token="<9>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", size - 2), ("<end>", size - 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<9>")


def bytes_vocabulary():
    """A vocabulary of bytes and common words, as Qwen's; transformers reads no other kind for such a model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = [" ".join(WORDS), " ".join(reversed(WORDS))]
    tokenizer.train_from_iterator(words * 9, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", unk_token="<|endoftext|>")


def clip_folder(folder):
    """The golden's text tower as its users have it."""
    golden = Golden(DATA / "maskgen")
    clip = golden.settings["clip"]
    tower_of_open_clip(golden.state("clip_text"), clip["text_cfg"]["heads"]).save_pretrained(folder)
    vocabulary(clip["text_cfg"]["vocab_size"]).save_pretrained(folder)
    return folder


def maskgen_pipeline(folder, kind):
    """MaskGen with the golden's tokenizer, whose projection of captions gets the width of the golden's tower."""
    golden, tokenizer = Golden(DATA / "maskgen"), Golden(DATA / "tatitok")
    name = f"tatitok_{'vq' if kind == 'vq' else 'vae'}"
    config = tatitok.tokenizer_config(tokenizer, name)
    width = golden.settings["clip"]["text_cfg"]["width"]
    state = load_file(DATA / "tatitok" / f"{name}.safetensors")
    key = "decoder.text_guidance_proj.weight"
    state[key] = torch.randn(len(state[key]), width, generator=torch.Generator().manual_seed(0))
    ours = (maskgen.load_vq if kind == "vq" else maskgen.load_kl)(golden).config
    return TextToImagePipeline.from_original(
        f"maskgen-{kind}-l", generator=load_file(DATA / "maskgen" / f"maskgen_{kind}.safetensors"), tokenizer=state,
        text_encoder=clip_folder(folder), tokenizer_config={**config, "text_dim": width},
        generator_config={key: value for key, value in ours.items() if not key.startswith("_")})


@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_maskgen_runs_from_its_files(kind, tmp_path):
    pipeline = maskgen_pipeline(tmp_path / "clip", kind)
    fast = {"num_order_steps": 3}
    prompts = ["a red circle", "the blue square in"]
    result = pipeline(prompts, generator=seeded(3, 4), output_type="pt", **fast)
    generator = pipeline.token_generator
    condition = pipeline.encode_prompts(prompts)
    sampler = generator.Sampler(**{**pipeline.published_sampler, **fast})
    tokens = generator.generate(condition, noise=SeededNoise.from_seeds([3, 4]), sampler=sampler)
    images = pipeline.image_tokenizer.decode(tokens, text_states=condition.text_states)
    torch.testing.assert_close(result.images, images, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pipeline.image_tokenizer.decode(tokens), images)  # the captions are read
    assert result.model == f"maskgen-{kind}-l" and "Apache-2.0" in result.weights_licence
    assert result.settings["aesthetic_score"] == 6.5 and result.settings["guidance_scale"] in (13.0, 3.0)
    alone = pipeline(prompts[1], generator=seeded(4)[0], output_type="pt", **fast)
    torch.testing.assert_close(alone.images, result.images[1:], rtol=1e-4, atol=1e-4)
    pipeline.save_pretrained(tmp_path / "saved")
    again = TextToImagePipeline.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(prompts, generator=seeded(3, 4), output_type="pt", **fast).images, result.images)
    with pytest.raises(ValueError, match="has 9 tokens, the model reads 7"):
        pipeline("a red circle in the blue sun")
    with pytest.raises(ValueError, match="language models, not for clip"):
        pipeline("a circle", system_prompt="the")


@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_settings_stand_in_the_official_config(kind, tmp_path):
    """A folder as the hub has it: config.json beside the weights; only the golden's short captions are no setting."""
    golden = Golden(DATA / "maskgen")
    ours = (maskgen.load_vq if kind == "vq" else maskgen.load_kl)(golden).config
    (tmp_path / "config.json").write_text(json.dumps(golden.settings[f"maskgen_{kind}"]))
    shutil.copy(DATA / "maskgen" / f"maskgen_{kind}.safetensors", tmp_path / "model.safetensors")
    settings = official_settings(f"maskgen-{kind}-l", tmp_path)
    assert {**settings, "text_length": 7} == {key: ours[key] for key in settings}
    model = load_original(f"maskgen-{kind}-l", tmp_path / "model.safetensors", **{**settings, "text_length": 7})
    assert model.config.width == 32


@pytest.mark.parametrize("name", ["vq", "vae"])
def test_a_tokenizer_reads_its_official_config(name):
    golden = Golden(DATA / "tatitok")
    official, wanted = golden.settings[f"tatitok_{name}"], tatitok.tokenizer_config(golden, f"tatitok_{name}")
    settings = TATiTok.convert_config(official)
    assert settings["encoder_size"] == [768, 12, 12] and settings["decoder_size"] == [1024, 24, 16]
    assert {key: wanted[key] for key in settings if not key.endswith("coder_size")} == {
        key: value for key, value in settings.items() if not key.endswith("coder_size")}
    official = {**official, "model": {"vq_model": {**official["model"]["vq_model"], "vit_enc_model_size": "huge"}}}
    with pytest.raises(ValueError, match="must be one of small, base, large, got 'huge'"):
        TATiTok.convert_config(official)


def test_captions_end_with_zeros_as_the_tower_was_trained(tmp_path):
    """All places are read, so what follows the end matters: transformers would repeat the end."""
    golden = Golden(DATA / "maskgen")
    clip_folder(tmp_path)
    ids = caption_ids(vocabulary(40), ["a red", ""], 7)
    assert ids.tolist() == [[38, 1, 2, 39, PAD, PAD, PAD], [38, 39, PAD, PAD, PAD, PAD, PAD]]
    tower = tower_of_open_clip(golden.state("clip_text"), golden.settings["clip"]["text_cfg"]["heads"])
    whole = tower_states(tower, ids)
    alone = tower_states(tower, ids[:1])
    for part, row in zip(whole, alone):
        torch.testing.assert_close(part[:1], row)
    broken = {key: value for key, value in golden.state("clip_text").items() if key != "ln_final.bias"}
    with pytest.raises(ValueError, match="the text tower does not fit .*1 missing"):
        tower_of_open_clip(broken, 2)


def test_hart_runs_from_its_files_and_a_language_model(tmp_path):
    golden = Golden(DATA / "hart")
    own = golden.settings["tokenizer"]
    torch.manual_seed(0)
    Qwen2Model(Qwen2Config(vocab_size=300, hidden_size=golden.settings["t2i"]["context_dim"], intermediate_size=16,
                           num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)).save_pretrained(tmp_path)
    bytes_vocabulary().save_pretrained(tmp_path)
    pipeline = TextToImagePipeline.from_original(
        "hart-0.7b-1024", generator=DATA / "hart" / "weights.safetensors",
        tokenizer=DATA / "hart" / "tokenizer.safetensors", text_encoder=tmp_path,
        tokenizer_config=hart.tokenizer_config(golden.settings), generator_config={
            **hart.convert_config(golden.settings["t2i"]), "token_width": own["z_channels"],
            "num_codes": own["vocab_size"]})
    result = pipeline(["a red", "blue"], generator=seeded(1, 2), output_type="pt")
    size = pipeline.image_tokenizer.image_size
    assert result.images.shape == (2, 3, size, size) and result.settings["smooth"] is True
    alone = pipeline("blue", generator=seeded(2)[0], output_type="pt")
    torch.testing.assert_close(alone.images, result.images[1:], rtol=1e-4, atol=1e-4)
    asked = pipeline("blue", generator=seeded(2)[0], output_type="pt", system_prompt="the sun in")
    assert asked.settings["system_prompt"] == "the sun in"
    plain, behind = (pipeline.encode_prompts(["blue"], text) for text in (None, "the sun in"))
    assert plain.mask.any() and torch.equal(plain.mask, behind.mask) and plain.features.shape == behind.features.shape
    assert not torch.allclose(plain.features, behind.features)
    with pytest.raises(ValueError, match="tokens, the model reads 5"):
        pipeline("a red circle in the blue sun")


def test_elm_runs_from_its_files():
    golden = Golden(DATA / "elm")
    books = golden.settings["ar"]["token_each"]
    config = elm.gpt_config(golden.settings["ar"])
    bae = elm.bae_config(golden.settings["bae"], books)
    pipeline = ClassToImagePipeline.from_original(
        "elm-l-2-10", gpt=DATA / "elm" / "ar.safetensors", bae=DATA / "elm" / "bae.safetensors",
        generator_config=config, tokenizer_config={**bae, "image_size": 2 * config["grid_size"]})
    result = pipeline([1, 2], generator=seeded(1, 2), output_type="pt")
    assert result.images.shape == (2, 3, 8, 8) and result.settings["top_k"] == 1000
    alone = pipeline(2, generator=seeded(2)[0], output_type="pt")
    torch.testing.assert_close(alone.images, result.images[1:], rtol=1e-4, atol=1e-5)
    masked = ClassToImagePipeline.from_original(
        "elm-mlm-l-1-16", gpt=DATA / "elm" / "mlm.safetensors", bae=DATA / "elm" / "bae.safetensors",
        generator_config={**elm.gpt_config(golden.settings["mlm"]), "code_bits": 6},
        tokenizer_config={**bae, "num_codebooks": 1, "image_size": 8})
    assert masked(3, generator=seeded(1)[0], output_type="latent").images.values.shape == (1, 16)


def test_tokenset_runs_from_its_files():
    golden = Golden(DATA / "tokenset")
    pipeline = ClassToImagePipeline.from_original(
        "tokenset-b", generator=DATA / "tokenset" / "dit.safetensors",
        tokenizer=DATA / "tokenset" / "tokenizer.safetensors",
        generator_config={key: value for key, value in tokenset.load_dit(golden).config.items()
                          if not key.startswith("_")}, tokenizer_config=tokenset.tokenizer_config(golden.settings))
    result = pipeline([1, 2], generator=seeded(1, 2), num_inference_steps=6, output_type="pt")
    alone = pipeline(2, generator=seeded(2)[0], num_inference_steps=6, output_type="pt")
    torch.testing.assert_close(alone.images, result.images[1:], rtol=1e-4, atol=1e-4)
    assert result.settings["guidance_stages"] == "4,50,55"
