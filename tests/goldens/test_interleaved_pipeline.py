"""Text and images to text and images from official files: recorded weights, and small language models."""

import json
import re

import numpy as np
import orthus
import pytest
import torch
from golden import Golden
from PIL import Image
from safetensors.torch import save_file
from tiny import build, draw_icon
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from photophone import CaptionIds, InterleavedPipeline, SeededNoise, Tokens
from photophone.decoding.interleaved import AnswerPlan
from photophone.generators.interleaved import Request
from photophone.heads.branched import BranchedFlowHead

DATA = orthus.__file__.replace("orthus.py", "data")
PICTURE = draw_icon("red", "circle")


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def words(folder, vocabulary, special):
    """A vocabulary of transformers whose words are these and "w0", "w1" and so on in the gaps."""
    size = max(vocabulary.values()) + 1
    table = {word: number for word, number in vocabulary.items()}
    table |= {f"w{number}": number for number in range(size) if number not in table.values()}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", additional_special_tokens=special,
                            split_special_tokens=False).save_pretrained(folder)
    return folder


def orthus_pipeline(folder):
    golden = Golden(f"{DATA}/orthus")
    model, vae = orthus.load(golden), orthus.vqgan(golden, orthus.OrthusVAE)
    special = {"<eoi>": 28, "<boi>": 29, "<end>": 40, "<image>": 41}
    words(folder, {"<unk>": 0, "red": 42, "circle": 43, "generate": 44, "images": 45, "image": 46, "a": 47, **special},
          list(special))
    return InterleavedPipeline.from_original(
        "orthus-7b-instruct", orthus=f"{DATA}/orthus/weights.safetensors", text_tokenizer=folder,
        generator_config=dict(model.config), tokenizer_config=dict(vae.config)), golden


FAST = {"num_inference_steps": 4, "max_new_tokens": 12, "max_images": 1}


def test_orthus_reads_and_writes_text_and_images_from_one_file(tmp_path):
    pipeline, _ = orthus_pipeline(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    requests = [["red", PICTURE, "circle"], "a red circle"]
    result = pipeline(requests, generator=seeded(3, 103), **FAST)
    assert [[isinstance(part, str) for part in row] for row in result.parts] == [[True, False, True]] * 2
    assert result.model == "orthus-7b-instruct" and result.settings["guidance_scale"] == 5.0
    for row in result.parts:
        assert all(isinstance(part, str) or part.size == (8, 8) for part in row)
    alone = pipeline("a red circle", generator=seeded(103)[0], **FAST)
    assert [part if isinstance(part, str) else np.asarray(part).tolist() for part in alone.parts[0]] == \
        [part if isinstance(part, str) else np.asarray(part).tolist() for part in result.parts[1]]
    again = pipeline(requests[0:1], generator=seeded(result.seeds[0]), **FAST)
    assert again.texts == result.texts[:1]


def test_a_request_of_orthus_has_the_form_of_its_authors(tmp_path):
    pipeline, golden = orthus_pipeline(tmp_path)
    request = pipeline.encode_request(["red", PICTURE, "circle"])
    count = golden.settings["sub"]["n_tokens"]
    assert request.ids.tolist() == [42, 29, *[41] * count, 28, 43, 40] and request.images[0].shape == (count, 8)
    assert request.null_ids.tolist() == [44, 45, 40]
    # read pixel by pixel: the shorter side to 8, and 255 * 0.0078 - 1 for white
    white = pipeline.image_tokenizer.reading(Image.new("RGB", (20, 9), "white"), 8)
    assert white.shape == (3, 8, 8) and float(white.min()) == pytest.approx(255 * 0.0078 - 1)


def test_an_image_among_text_is_that_of_the_recorded_loop(tmp_path):
    """The session draws behind the prompt what ``generate`` draws, with the recorded draws, and goes on behind it as
    if the whole had been read at once."""
    pipeline, golden = orthus_pipeline(tmp_path)
    model, ids, mask = pipeline.token_generator, golden["in_gen_ids"], golden["in_gen_mask"].bool()
    sampler = model.Sampler(guidance_scale=golden.settings["cfg_scale"])
    request = Request(ids[0, mask[0]], null_ids=ids[1, mask[1]])
    session = model.session(request, golden.noise(normal=list(golden["in_noise_latents"])), sampler)
    session.read(model.image_start)
    tokens = session.draw_image(None)
    expected = golden["out_gen_latents"]
    assert float((tokens.values[0] - expected).abs().max() / expected.abs().max()) < 1e-3
    text = model.text_embedding
    x = torch.cat([text(torch.cat([request.ids, torch.tensor([29])])[None]), model.embed_tokens(tokens.values),
                   text(torch.tensor([[28]]))], dim=1)
    place = torch.arange(x.shape[1])
    logits = model.text_head(model.backbone.at(x, place[None], (place[:, None] >= place)[None, None]))[:, -1]
    assert session.logits().argmax() == logits.index_fill(-1, session.silent, -torch.inf).argmax()
    torch.testing.assert_close(model.text_head(session.last)[:, 0], logits, rtol=1e-4, atol=1e-4)


def seed_pipeline(folder, decoder=None):
    golden = Golden(f"{DATA}/seed")
    own, bert, vit = golden.settings["tokenizer"], golden.settings["bert"], golden.settings["vit"]
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, rms_norm_eps=1e-6)
    llama = LlamaForCausalLM(config).eval()
    llama.save_pretrained(folder / "llama")
    special = {"<s>": 1, "</s>": 2, **{f"<img_{code:05d}>": 20 + code for code in range(40)}, "<img>": 60, "</img>": 61}
    text = {"<unk>": 0, "USER": 3, ":": 4, "ASSISTANT": 5, "red": 6, "circle": 7, "w63": 63}
    words(folder / "words", {**text, **special}, list(special))
    pipeline = InterleavedPipeline.from_original(
        "seed-llama-8b-sft", llama=folder / "llama", seed=f"{DATA}/seed/weights.safetensors",
        text_tokenizer=folder / "words", image_decoder=decoder,
        generator_config={"num_codes": own["n_embed"], "first_code": 20, "image_start": 60, "image_end": 61},
        tokenizer_config={
            "image_size": vit["img_size"], "patch": vit["patch_size"], "vision_width": vit["embed_dim"],
            "vision_depth": vit["depth"], "vision_heads": vit["num_heads"],
            "vision_hidden": int(vit["embed_dim"] * vit["mlp_ratio"]), "width": bert["hidden_size"],
            "depth": bert["num_hidden_layers"], "num_heads": bert["num_attention_heads"],
            "hidden": bert["intermediate_size"], "token_width": own["codebook_embed_dim"], "num_codes": own["n_embed"],
            "decode_depth": own["decode_depth"], "embedding_dim": own["image_features_dim"]})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, llama


@pytest.fixture(scope="module")
def unclip(tmp_path_factory):
    """A folder of Stable unCLIP with random parts, as the official one is laid out."""
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import CLIPImageProcessor, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("unclip")
    letters = {**{f"{letter}</w>": number for number, letter in enumerate("abc")}, "<|startoftext|>": 3,
               "<|endoftext|>": 4}
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    width = 24  # of the image embedding
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(size=8, crop_size=8),
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(
            hidden_size=width, projection_dim=width, num_hidden_layers=1, num_attention_heads=2, image_size=8,
            intermediate_size=8, patch_size=4)),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=width),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
        text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=5, hidden_size=8, intermediate_size=8,
                                                  num_hidden_layers=1, num_attention_heads=2)),
        unet=UNet2DConditionModel(sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
                                  down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                                  up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=(2, 4),
                                  class_embed_type="projection", projection_class_embeddings_input_dim=2 * width,
                                  cross_attention_dim=8, use_linear_projection=True),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
        vae=AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
                          down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2),
    ).save_pretrained(folder / "unclip")
    return folder / "unclip"


@pytest.fixture
def no_decoder(monkeypatch):
    """Nothing asks the hub for Stable unCLIP."""
    monkeypatch.setattr("photophone.pipelines.interleaved.load_decoder", lambda source, hub: None)


def test_the_llama_of_seed_is_that_of_transformers(tmp_path, no_decoder):
    pipeline, llama = seed_pipeline(tmp_path)
    model, ids = pipeline.token_generator, torch.tensor([[1, 3, 4, 60, *range(20, 52), 61, 6, 5]])
    with torch.no_grad():
        torch.testing.assert_close(model.text_head(model.states(ids)), llama(ids).logits, rtol=1e-4, atol=1e-4)
    assert model.config.depth == 2 and model.config.num_kv_heads == 2  # of the folder's config.json


def test_seed_reads_codes_as_words_and_writes_as_transformers_does(tmp_path, no_decoder):
    pipeline, llama = seed_pipeline(tmp_path)
    request = pipeline.encode_request(["red", PICTURE, "circle"], "text")
    codes = pipeline.image_tokenizer.encode(
        pipeline.image_tokenizer.reading(PICTURE, pipeline.image_tokenizer.image_size)[None]).values[0]
    assert request.ids.tolist() == [1, 3, 4, 6, 60, *(20 + codes).tolist(), 61, 7, 5, 4]
    answer = pipeline.token_generator.answer(request, noise=SeededNoise.from_seeds([1]), plan=AnswerPlan("text", 10),
                                             sampler=pipeline.sampler({"temperature": 0.0}))
    banned = [[number] for number in range(20, 62)]
    with torch.no_grad():
        greedy = llama.generate(request.ids[None], max_new_tokens=10, do_sample=False, bad_words_ids=banned,
                                eos_token_id=2, pad_token_id=0)[0, len(request.ids):]
    assert answer[0].tolist() == [number for number in greedy.tolist() if number != 2]


def test_seed_draws_with_unclip_and_is_saved_with_it(tmp_path, unclip):
    pipeline, _ = seed_pipeline(tmp_path, unclip)
    options = {"kind": "image", "decoder_steps": 2}
    result = pipeline(["red", ["circle", PICTURE]], generator=seeded(1, 2), **options)
    assert [image.size for row in result.images for image in row] == [(16, 16), (16, 16)]
    assert result.settings["top_p"] == 0.5 and "seed-llama" in result.model
    pipeline.save_pretrained(tmp_path / "saved")
    again = InterleavedPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    alone = again([["circle", PICTURE]], generator=seeded(2), **options)
    assert np.array_equal(np.asarray(alone.images[0][0]), np.asarray(result.images[1][0]))
    assert again.published_sampler == pipeline.published_sampler


def test_without_unclip_seed_gives_codes_and_text_alone(tmp_path, no_decoder):
    pipeline, _ = seed_pipeline(tmp_path)
    with pytest.raises(ValueError, match=r"makes image embeddings, not pixels: give image_decoder="):
        pipeline("red")
    (tokens,) = pipeline("red", kind="image", output_type="latent", generator=seeded(3)[0]).parts[0]
    assert isinstance(tokens, Tokens) and tokens.values.shape == (1, 32)
    assert pipeline.image_tokenizer.decode(tokens).shape == (1, 24)
    assert isinstance(pipeline("red", kind="text", max_new_tokens=5).texts[0], str)


def official_ming(model):
    """The weights of our model under the authors' keys, with what their file holds beside."""
    ours = [("text_embedding.", "model.model.word_embeddings."), ("backbone.blocks.", "model.model.layers."),
            ("backbone.norm.", "model.model.norm."), ("text_head.", "model.lm_head."),
            ("image_head.", "model.vis_head."), ("image_in.", "linear_proj."), (".norm1.", ".input_layernorm."),
            (".norm2.", ".post_attention_layernorm."), (".to_qkv.", ".query_key_value."), (".to_out.", ".dense."),
            (".feed_forward.shared.", ".mlp.shared_experts."), (".feed_forward.", ".mlp.")]
    state = {}
    for key, value in model.state_dict().items():
        if key.startswith("token_head."):
            continue
        name = key
        for mine, theirs in ours:
            name = name.replace(mine, theirs)
        if ".experts." in key or ".shared." in key:
            name = re.sub(r"\.(gate|value|out)\.weight$", lambda match: {
                "gate": ".gate_proj", "value": ".up_proj", "out": ".down_proj"}[match[1]] + ".weight", name)
        state[name] = value
    state["model.model.layers.0.mlp.audio_gate.weight"] = torch.zeros(2, 32)
    state["vision.low_level_encoder.cls_token"] = torch.zeros(1, 1, 64)
    return state


def ming_pipeline(folder):
    golden = Golden(f"{DATA}/mingtok")
    model = build("ming-univision-16b-a3b")
    head, given = golden.settings["rf"], golden.settings["mingtok"]
    state = official_ming(model)
    for key, value in golden.state("rf_head").items():
        state[f"model.diffloss.{key}"] = value
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    special = {"<role>": 1, "</role>": 2, "<imagePatch>": 20, "<img>": 21, "</img>": 22, "<|endoftext|>": 23}
    words(folder, {"<unk>": 0, "HUMAN": 3, "ASSISTANT": 4, "red": 5, "circle": 6, **special}, list(special))
    low, semantic, pixel = (given[name] for name in ("low_level_encoder", "semantic_decoder", "pixel_decoder"))
    return InterleavedPipeline.from_original(
        "ming-univision-16b-a3b", ming=folder / "model.safetensors", mingtok=f"{DATA}/mingtok/mingtok.safetensors",
        text_tokenizer=folder, generator_config={
            **{key: value for key, value in model.config.items() if not key.startswith("_")}, "num_tokens": 17,
            "token_dim": head["target_channels"], "head_width": head["width"], "head_depth": head["depth"],
            "head_ratio": float(head["mlp_mult"]), "text_end": 23},
        tokenizer_config={
            "image_size": low["img_size"], "patch": low["patch_size"], "token_dim": low["out_dim"],
            "encoder_width": low["embed_dim"], "encoder_depth": low["depth"], "semantic_width": semantic["embed_dim"],
            "semantic_depth": semantic["decoder_depth"], "pixel_width": pixel["embed_dim"],
            "pixel_depth": pixel["decoder_depth"], "pixel_patch": pixel["patch_size"], "token_mean": given["mean"],
            "token_scale": given["scaling_factor"]})


def test_ming_reads_and_draws_with_its_recorded_head_and_tokenizer(tmp_path):
    pipeline = ming_pipeline(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    golden = Golden(f"{DATA}/mingtok")
    head = pipeline.token_generator.token_head
    expected = BranchedFlowHead.convert_state_dict(golden.state("rf_head"))
    assert all(torch.equal(value, expected[key]) for key, value in head.state_dict().items())
    request = pipeline.encode_request(["red", PICTURE])
    assert request.ids.tolist() == [1, 3, 2, 5, 21, *[20] * 16, 22, 1, 4, 2]
    assert request.asked.tolist() == [False] * 3 + [True] * 19 + [False] * 3
    options = {"kind": "image", "num_inference_steps": 3}
    result = pipeline([["red", PICTURE], "circle"], generator=seeded(1, 2), **options)
    assert [row[0].size for row in result.images] == [(32, 32)] * 2 and result.settings["image_guidance"] == 1.1
    alone = pipeline("circle", generator=seeded(2)[0], **options)
    assert np.array_equal(np.asarray(alone.images[0][0]), np.asarray(result.images[1][0]))
    text = pipeline([["red", PICTURE]], kind="text", max_new_tokens=6, generator=seeded(1)[0])
    assert text.images == [[]]


def test_rows_of_ming_see_what_their_branch_may_see(tmp_path):
    """An image behind a request is drawn from three rows; each equals one whole sequence with its own mask."""
    pipeline = ming_pipeline(tmp_path)
    model, request = pipeline.token_generator, pipeline.encode_request(["red", PICTURE])
    model.connect(pipeline.image_tokenizer)
    session = model.session(request, SeededNoise.from_seeds([4]), model.Sampler(num_inference_steps=2))
    session.read(model.image_start)
    seen = [mask[0].tolist() for mask in session.masks()]
    image = [False] * 4 + [True] * 18 + [False] * 3
    assert seen[1] == [not one for one in request.asked.tolist()] and seen[0] == [True] * 25
    assert seen[2] == [not asked or one for asked, one in zip(request.asked.tolist(), image)]
    hidden = []
    original = model.draw_tokens
    model.draw_tokens = lambda memory, states, *rest: hidden.append(states) or original(memory, states, *rest)
    tokens = session.draw_image(None).values
    del model.draw_tokens
    ids = torch.cat([request.ids, torch.tensor([model.image_start])])[None]
    whole = model.session(Request(ids[0], request.images, torch.zeros_like(ids[0], dtype=torch.bool)),
                          SeededNoise.from_seeds([4]), model.Sampler())
    torch.testing.assert_close(hidden[0][:1], whole.last, rtol=1e-4, atol=1e-5)
    # what follows the image reads all of it: the same as one sequence of the request, the start and the tokens
    x = torch.cat([whole_embeddings(model, ids, request), model.embed_tokens(tokens[:, :-1])], dim=1)
    given = torch.cat([(ids == 20), torch.zeros(1, 16, dtype=torch.bool)], dim=1)
    place = torch.arange(x.shape[1])
    states = model.backbone.at(x, place[None], (place[:, None] >= place)[None, None], images=given)
    torch.testing.assert_close(session.last, states[:, -1:], rtol=1e-3, atol=1e-4)


def whole_embeddings(model, ids, request):
    x, read = model.text_embedding(ids), model.embed_tokens(torch.stack(request.images))[:, :-1]
    return x.masked_scatter((ids == 20)[..., None], read)


def test_generate_draws_what_an_answer_draws():
    """The contract of generators and the answer of one image agree, without guidance by a null prompt."""
    for name in ("orthus-7b-base", "seed-llama-8b-sft"):
        model = build(name)
        ids = torch.tensor([[3, 5, 2]])
        sampler = model.Sampler(**({"guidance_scale": 1.0, "num_inference_steps": 3} if "orthus" in name else {}))
        condition = CaptionIds(ids, torch.ones_like(ids, dtype=torch.bool), ids[0, :1])
        made = model.generate(condition, noise=SeededNoise.from_seeds([3]), sampler=sampler)
        (answer,) = model.answer(Request(ids[0], null_ids=ids[0, :1]), noise=SeededNoise.from_seeds([3]),
                                 sampler=sampler, plan=AnswerPlan("image"))
        torch.testing.assert_close(answer.values, made.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("request_", "options", "message"), [
    ("", {}, "the prompt is empty"),
    ([], {}, "without text and images"),
    ([[3]], {}, "must be a text or a PIL image, got int"),
    ("red <boi>", {}, r"holds '<boi>', which stands for an image; give images as pictures"),
    ("red", {"kind": "sound"}, r"kind must be one of any, image, text, got 'sound'"),
    ("red", {"max_new_tokens": 0}, r"max_ids must be 1 to 8192, got 0"),
    ("red", {"max_images": 65}, r"max_images must be 1 to 64, got 65"),
    ("red", {"num_answers_per_request": 65}, r"1 requests x 65 answers asked for; one call gives 1 to 64"),
    ("red", {"output_type": "gif"}, "output_type must be one of"),
    ("red", {"guidance_scale": 31.0}, r"guidance_scale must be 0 to 30, got 31.0"),
    ("red", {"top_k": 3}, "has no option top_k"),
    ("red", {"decoder_steps": 0}, r"decoder_steps must be 1 to 1000, got 0"),
])
def test_what_cannot_be_is_refused_before_anything_is_computed(request_, options, message, tmp_path):
    pipeline, _ = orthus_pipeline(tmp_path)
    pipeline.token_generator.answer = None
    with pytest.raises(ValueError, match=message):
        pipeline(request_, **options)


def test_answers_are_saved_as_pages(tmp_path):
    pipeline, _ = orthus_pipeline(tmp_path / "words")
    pipeline.set_progress_bar_config(disable=True)
    result = pipeline([["a", PICTURE]], kind="image", generator=seeded(5), num_inference_steps=2)
    (file,) = result.save(tmp_path / "out")
    page, facts = file.read_text(), json.loads(file.with_suffix(".json").read_text())
    assert page.count("data:image/png;base64,") == 2 and file.name == "a-5.html"
    assert facts["request"] == ["a", "<image>"] and facts["answer"] == ["<image>"] and facts["seed"] == 5
    assert facts["weights_licence"] and facts["kind"] == "image"
    with pytest.raises(ValueError, match="only answers of output_type 'pil'"):
        pipeline("a", kind="image", num_inference_steps=1, output_type="pt").save(tmp_path / "out")


def test_the_callback_stops_an_answer(tmp_path):
    from photophone.decoding.loop import DecodingStopped

    pipeline, _ = orthus_pipeline(tmp_path)
    seen = []

    def stop(running, step, total, _):
        seen.append((step, total))
        running._interrupt = step == 3

    pipeline.set_progress_bar_config(disable=True)
    with pytest.raises(DecodingStopped, match="after step 3"):
        pipeline("red", kind="image", num_inference_steps=1, callback_on_step_end=stop)
    assert seen == [(1, 16), (2, 16), (3, 16)]


def test_experts_are_chosen_by_the_likeliest_gates():
    """Against the sum over all experts with normalised probabilities of the best two, and the gate of images."""
    from photophone.generators.ming.experts import ExpertFeedForward

    torch.manual_seed(0)
    layer, x = ExpertFeedForward(8, 6, 5, 2, 2).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    images = torch.tensor([[True, False, False], [False, True, True]])
    for given in (None, images):
        logits = layer.gate(x) if given is None else torch.where(given[..., None], layer.image_gate(x), layer.gate(x))
        shares = logits.softmax(dim=-1)
        kept = shares >= shares.sort(dim=-1).values[..., -2:-1]
        shares = (shares * kept) / (shares * kept).sum(dim=-1, keepdim=True)
        every = torch.stack([expert(x) for expert in layer.experts], dim=-1)
        expected = (every * shares[..., None, :]).sum(dim=-1) + layer.shared(x)
        torch.testing.assert_close(layer(x, given), expected, rtol=1e-6, atol=1e-8)


def test_with_equal_experts_the_backbone_of_ming_is_a_llama():
    """Weights of experts sum to 1, so equal experts are one feed-forward; transformers' Llama is the reference."""
    from photophone.generators.ming.experts import ExpertLlama
    from photophone.layers.left_padding import attention_mask, positions
    from photophone.layers.llama_block import convert_llama_keys

    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=32, intermediate_size=24, num_hidden_layers=2,
                                         num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5,
                                         rope_parameters={"rope_type": "default", "rope_theta": 600_000.0},
                                         initializer_range=0.3)).eval()
    ours = ExpertLlama(32, 2, 4, 2, 8, 24, 3, 2, 1, 1e-5, 600_000.0)
    plain = convert_llama_keys(dict(llama.model.state_dict()), "", "")
    with torch.no_grad():
        for key, value in ours.state_dict().items():
            if ".shared." in key:
                value.zero_()
            elif "gate.weight" not in key or ".experts." in key:
                value.copy_(plain[re.sub(r"\.experts\.\d", "", key)])
        ids = torch.tensor([[1, 4, 7, 2, 8]])
        mask = torch.ones_like(ids, dtype=torch.bool)
        made = ours.at(llama.model.embed_tokens(ids), positions(mask), attention_mask(mask))
        torch.testing.assert_close(made, llama.model(ids).last_hidden_state, rtol=1e-4, atol=1e-5)
