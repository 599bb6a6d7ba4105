"""The class-to-image pipeline with small real generators of every family, and LlamaGen's text-to-image on a tiny T5."""

import json
import math

import numpy as np
import pytest
import torch
from tiny import CHAINS, icons, shake, small_chain, t5_vocabulary
from transformers import T5Config, T5EncoderModel

from photophone import ClassToImagePipeline, TextToImagePipeline, Tokens, create_model, list_models
from photophone.decoding.loop import DecodingStopped
from photophone.loading.chains import check_chain
from photophone.loading.registry import find
from photophone.pipelines.class_to_image import read_labels
from photophone.text.features import encode_features

CLOSE = {"rtol": 1e-3, "atol": 1e-3}
_BUILT = {}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def build(name):
    """The pipeline of a family, tiny, as if of published weights, and options that make its sampler short."""
    if name not in _BUILT:
        pipeline = ClassToImagePipeline(*small_chain(name), published={"model": name, "revision": "abc"})
        _BUILT[name] = pipeline, {key: value for key, value in find(name).tiny_sampler.items()
                                  if key not in ("guidance_scale", "temperature")}
    return _BUILT[name]


@pytest.fixture(params=CHAINS)
def chain(request):
    return build(request.param)


def test_a_seed_means_the_same_image_alone_and_in_a_batch(chain):
    pipeline, options = chain
    labels, seeds = [2, 7, 2], [5, 5, 9]
    batch = pipeline(labels, generator=seeded(*seeds), output_type="pt", **options)
    size = pipeline.image_tokenizer.image_size
    assert batch.images.shape == (3, 3, size, size) and float(batch.images.abs().max()) <= 1
    assert batch.class_labels == labels and batch.seeds == seeds and batch.prompts is None
    for row in range(3):
        alone = pipeline(labels[row], generator=seeded(seeds[row])[0], output_type="pt", **options)
        torch.testing.assert_close(alone.images[0], batch.images[row], **CLOSE)
    assert not torch.allclose(batch.images[0], batch.images[2], **CLOSE)


def test_the_output_makes_itself_again(chain, tmp_path):
    pipeline, options = chain
    first = pipeline(3, num_images_per_class=2, **options)
    assert len(first.images) == 2 and first.class_labels == [3, 3] and len(set(first.seeds)) == 2
    again = pipeline(first.class_labels, generator=seeded(*first.seeds), **first.settings)
    for one, other in zip(first.images, again.images):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert first.revision == "abc" and find(first.model).weights_licence in first.weights_licence
    (file, _) = first.save(tmp_path)
    facts = json.loads(file.with_suffix(".json").read_text())
    assert file.name == f"class-3-{first.seeds[0]}.png" and facts["class_label"] == 3 and facts["model"] == first.model


def test_published_settings_are_the_default(chain):
    pipeline, _ = chain
    published = find(pipeline.source["model"]).chain.sampler
    settings = pipeline.sampler({"guidance_scale": None}).settings()
    assert published and all(settings[name] == value for name, value in published.items())
    assert pipeline.sampler({"guidance_scale": 1.5}).guidance_scale == 1.5
    assert {"guidance_scale", "guidance_schedule", "temperature"} <= set(settings)


def test_latent_output_decodes_to_the_images(chain):
    pipeline, options = chain
    tokens, pixels = (pipeline([1, 4], generator=seeded(1, 2), output_type=kind, **options).images
                      for kind in ("latent", "pt"))
    assert isinstance(tokens, Tokens) and len(tokens) == 2
    assert torch.equal(pipeline.image_tokenizer.decode(tokens), pixels)
    (array,) = pipeline([1, 4], generator=seeded(1, 2), output_type="np", return_dict=False, **options)
    np.testing.assert_allclose(array, (pixels.permute(0, 2, 3, 1).numpy() + 1) / 2, atol=1e-6)


def test_the_callback_sees_each_step_and_can_stop(chain):
    pipeline, options = chain
    seen = []
    pipeline(0, callback_on_step_end=lambda *given: seen.append(given), **options)
    assert [(step, total) for _, step, total, _ in seen] == [(n, len(seen)) for n in range(1, len(seen) + 1)] and seen
    if "num_order_steps" in options:
        assert len(seen) == options["num_order_steps"]
    assert all(pipe is pipeline and rest == {} for pipe, _, _, rest in seen)

    def stop(pipe, step, total, _):
        pipe._interrupt = True

    with pytest.raises(DecodingStopped, match="after step 1 of"):
        pipeline(0, callback_on_step_end=stop, **options)


def test_guidance_its_schedule_and_temperature_act(chain):
    pipeline, options = chain

    def make(scale, schedule="constant", temperature=1.0):
        return pipeline(1, generator=seeded(3)[0], output_type="latent", guidance_scale=scale, temperature=temperature,
                        guidance_schedule=schedule, **options).images.values

    made = [make(2.0), make(6.0), make(6.0, "linear"), make(2.0, temperature=0.3)]
    for index, values in enumerate(made):
        assert not any(torch.equal(values, other) for other in made[:index])
    with pytest.raises(ValueError, match="guidance_schedule must be one of .*'cosine'"):
        make(2.0, "cosine")


def test_saved_pipelines_make_equal_images_and_keep_their_name(chain, tmp_path):
    pipeline, options = chain
    pipeline.save_pretrained(tmp_path)
    again = ClassToImagePipeline.from_pretrained(tmp_path)
    ours, loaded = (p([1, 2], generator=seeded(1, 2), output_type="pt", **options) for p in (pipeline, again))
    assert torch.equal(ours.images, loaded.images)
    assert (loaded.model, loaded.revision, loaded.weights_licence) == (ours.model, "abc", ours.weights_licence)


@pytest.mark.parametrize(("labels", "options", "words"), [
    (10, {}, r"0\.\.9, got \[10\]"), (-1, {}, r"got \[-1\]"), ([1, 99], {}, "99"), ([], {}, "0 classes x 1"),
    (1.5, {}, "got 1.5"), ("cat", {}, "'cat'"), ([1, "2"], {}, "got '2'"), (True, {}, "whole number"),
    (None, {}, "None"), (1, {"num_images_per_class": 0}, "1 classes x 0 images"),
    (1, {"num_images_per_class": 65}, "1 to 64"), (1, {"num_images_per_class": 1.0}, "x 1.0 images"),
    (1, {"colour": "red"}, "MAR has no option colour; it has .*head_sampler"),
    (1, {"quantizer": 1}, "no option quantizer"), (1, {"noise": 1}, "no option noise"),
    (1, {"guidance_scale": 31}, "got 31"), (1, {"guidance_scale": float("nan")}, "got nan"),
    (1, {"temperature": 2.5}, "0 to 2, got 2.5"), (1, {"num_inference_steps": 0}, "got 0"),
    (1, {"num_order_steps": 17}, r"1\.\.16 steps, got 17"), (1, {"num_inference_steps": True}, "got True"),
    (1, {"head_sampler": "ddim", "num_inference_steps": 300}, "no integer stride"),
    (1, {"head_sampler": "x"}, "got 'x'"),
    (1, {"output_type": "jpeg"}, "'jpeg'"),
    (1, {"generator": 3}, "got int"), ([1, 2], {"generator": seeded(1)}, "1 generators for 2 samples"),
], ids=str)
def test_wrong_arguments_are_refused(labels, options, words):
    pipeline, fast = build("mar-base")
    with pytest.raises(ValueError, match=words):
        pipeline(labels, **{**fast, **options})


def test_steps_where_there_is_no_choice_are_refused():
    for name in ("llamagen-b-256", "var-d16", "titok-l32-generator"):
        pipeline, options = build(name)
        with pytest.raises(ValueError, match="has no option num_inference_steps"):
            pipeline(1, num_inference_steps=8, **options)
    with pytest.raises(ValueError, match="num_order_steps are the steps of its order"):
        pipeline(1, num_inference_steps=8)
    titok, options = build("titok-l32-generator")  # its scale is another
    assert len(titok(1, temperature=11.0, **options).images) == 1


def test_labels_come_in_all_kinds():
    for given in ([2, 3], (2, 3), torch.tensor([2, 3]), np.array([2, 3]), range(2, 4)):
        assert read_labels(given) == [2, 3]
    for given in (2, torch.tensor(2), np.int64(2)):
        assert read_labels(given) == [2]


# text ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_pipeline():
    tokenizer = t5_vocabulary([fields["caption"] for _, fields in icons()][:50], 160)
    torch.manual_seed(0)
    encoder = shake(T5EncoderModel(T5Config(vocab_size=160, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2)))
    generator, images = small_chain("llamagen-xl-t2i-256")
    return TextToImagePipeline(tokenizer, generator, images, encoder, {"model": "llamagen-xl-t2i-256",
                                                                       "revision": None})


def test_captions_become_features_padded_on_the_left(text_pipeline):
    captions = ["Red  circle", "blue ring, pixel"]
    features, mask = encode_features(text_pipeline.text_tokenizer, text_pipeline.text_encoder, captions, 20)
    assert features.shape == (2, 20, 12) and mask.dtype == torch.bool and not features[~mask].any()
    for row, caption in enumerate(("red circle", "blue ring, pixel")):
        ids = text_pipeline.text_tokenizer(caption, return_tensors="pt")["input_ids"]
        count = ids.shape[1]
        assert mask[row].tolist() == [False] * (20 - count) + [True] * count
        with torch.no_grad():
            alone = text_pipeline.text_encoder(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(features[row, 20 - count:], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="tokens, the model reads 2"):
        encode_features(text_pipeline.text_tokenizer, text_pipeline.text_encoder, captions, 2)


def test_llamagen_makes_images_of_captions(text_pipeline, tmp_path):
    prompts, options = ["red bar", "blue ring"], {"top_k": 40}
    batch = text_pipeline(prompts, generator=seeded(1, 2), output_type="pt", **options)
    assert batch.settings["guidance_scale"] == 7.5 and batch.prompts == prompts and batch.class_labels is None
    for row in range(2):
        alone = text_pipeline(prompts[row], generator=seeded(row + 1)[0], output_type="pt", **options)
        torch.testing.assert_close(alone.images[0], batch.images[row], **CLOSE)
    text_pipeline.save_pretrained(tmp_path)
    again = TextToImagePipeline.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["text_encoder"] == ["transformers", "T5EncoderModel"]
    loaded = again(prompts, generator=seeded(1, 2), output_type="pt", **options)
    torch.testing.assert_close(loaded.images, batch.images, **CLOSE)
    assert loaded.model == "llamagen-xl-t2i-256" and "LAION-COCO" in loaded.weights_licence


# published sizes -------------------------------------------------------------------------------------------------


def token_shape(model):
    """Tokens of an image, and their width or number of codes, that a generator makes."""
    config = getattr(model, "target", model).config
    if "scales" in config:
        width = config.token_width if "respacing" in config else config.num_codes  # HART's have a diffusion head
        return sum(scale**2 for scale in config.scales), width
    if "grid" in config:
        length = math.prod(config.grid)
    else:
        length = config.grid_size**2 if "grid_size" in config else config.num_tokens
    if "num_codebooks" in config and "token_dim" in config:  # signs, in groups
        return length, 2**(config.token_dim // config.num_codebooks)
    for bits in ("code_bits", "token_bits"):
        if bits in config:
            return length, 2**config[bits]
    return length, config.token_dim if "token_dim" in config else config.num_codes


@pytest.mark.parametrize("name", [entry.name for entry in list_models("generator")
                                  if entry.chain and entry.chain.pipeline.endswith("ImagePipeline")])
def test_published_generators_fit_their_tokenizers_and_samplers(name):
    chain = find(name).chain
    with torch.device("meta"):
        tokenizer = create_model(chain.tokenizer[1], **chain.tokenizer_config)
        model = create_model(name)
    assert token_shape(model) == (tokenizer.num_tokens, tokenizer.codebook_size or tokenizer.token_dim)
    family = {kind.__name__: kind for kind in (TextToImagePipeline, ClassToImagePipeline)}[chain.pipeline]
    assert check_chain(family.__name__, name, chain.files) is chain
    with torch.device("meta"):
        parts = {"text_tokenizer": None} if family is TextToImagePipeline else {}
    pipeline = family(**parts, token_generator=model, image_tokenizer=tokenizer,
                      published={"model": name, "revision": None})
    assert chain.sampler.items() <= pipeline.sampler().settings().items()


@pytest.mark.parametrize(("name", "millions"), [
    ("llamagen-b-256", 111), ("llamagen-l-256", 343), ("llamagen-xl-384", 775), ("llamagen-xxl-384", 1400),
    ("llamagen-3b-384", 3100), ("mar-base", 208), ("mar-large", 478), ("mar-huge", 942), ("xar-base", 173),
    ("xar-large", 608), ("xar-huge", 1186), ("var-d16", 310), ("var-d20", 600), ("var-d24", 1000), ("var-d30", 2000),
    ("var-d36", 2300)])
def test_published_sizes_have_the_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        count = sum(weight.numel() for weight in create_model(name).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.035)  # some are published with two digits


@pytest.mark.slow
def test_a_published_size_makes_an_image():
    pipeline = ClassToImagePipeline(create_model("mar-base").eval(), create_model("mar-kl16").eval(),
                                    {"model": "mar-base", "revision": None})
    (image,) = pipeline(207, num_order_steps=2, num_inference_steps=2, generator=seeded(1)[0]).images
    assert image.size == (256, 256)
