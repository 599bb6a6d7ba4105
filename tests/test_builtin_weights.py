"""The weights that ship in the package."""

import numpy as np
import pytest
import torch
from tiny import draw_icon

from photophone import TextToImagePipeline, Tokens
from photophone.loading.registry import PRETRAINED

NAME = "photophone/tiny-image"


@pytest.fixture(scope="module")
def pipeline():
    return TextToImagePipeline.from_pretrained(NAME)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def arrays(result):
    return [np.asarray(image) for image in result.images]


def test_the_weights_fit_the_wheel_and_are_16_bit(pipeline):
    files = list((PRETRAINED / "tiny-image").rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 16_000_000  # the limit of all parts
    half = TextToImagePipeline.from_pretrained(NAME, dtype=torch.float16).token_generator.state_dict()
    for key, weight in pipeline.token_generator.state_dict().items():
        assert torch.equal(weight, half[key].float()), f"{key} is not stored in 16 bits"


def test_a_seed_gives_the_same_image_alone_and_in_a_batch_of_eight(pipeline):
    prompts = ["a red apple, 3d emoji", "house, flat emoji", "human woman wearing red robe, pixel art", "cat"] * 2
    batch = arrays(pipeline(prompts, generator=seeded(*range(8))))
    for row in (0, 2, 7):
        (alone,) = arrays(pipeline(prompts[row], generator=seeded(row)))
        # sums of another length round differently, which may tip a value over to the next of 256 levels
        assert np.abs(alone.astype(int) - batch[row]).max() <= 1


def test_prompts_and_seeds_matter(pipeline):
    apple, other_seed, house = arrays(pipeline(["red apple, 3d emoji"] * 2 + ["blue house, 3d emoji"],
                                               generator=seeded(1, 2, 1)))
    for image in (apple, other_seed, house):
        assert image.shape == (64, 64, 3) and image.std() > 20  # not blank
    assert np.abs(apple.astype(int) - other_seed).mean() > 5
    red, blue = apple.reshape(-1, 3).mean(0), house.reshape(-1, 3).mean(0)
    assert red[0] - red[2] > blue[0] - blue[2]  # the apple is redder than the blue house


def test_few_steps_are_the_default_and_more_agree_with_them(pipeline):
    """A few steps of the flow map come near to what twenty make of the same noise; guidance is a working option."""
    def tokens(**options):
        return pipeline("birthday cake, flat emoji", generator=seeded(5), output_type="latent", **options).images.values

    assert pipeline("house", generator=seeded(0)).settings["num_inference_steps"] == 2
    usual = tokens()
    variance = usual.var()
    assert torch.equal(usual, tokens(num_inference_steps=2, guidance_scale=3.0, temperature=0.6))
    assert not torch.equal(usual, tokens(temperature=1.0))
    assert (tokens(num_inference_steps=20) - usual).square().mean() < 0.1 * variance
    errors = [float((tokens(guidance_scale=scale) - usual).square().mean()) for scale in (3.0, 3.2, 4.5, 8.0)]
    assert errors[0] == 0 and errors == sorted(errors)


def test_the_built_in_pipeline_makes_two_sizes(pipeline):
    (small,), (large,) = (arrays(pipeline("a red apple", generator=seeded(1), height=size, width=size))
                          for size in pipeline.sizes)
    assert small.shape == (64, 64, 3) and large.shape == (128, 128, 3)
    back = large.astype(float).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(back - small).mean() < 4  # it is the same picture


def test_saved_again_it_makes_equal_images(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = TextToImagePipeline.from_pretrained(tmp_path)
    one, two = (arrays(p("birthday cake, flat emoji", generator=seeded(5))) for p in (pipeline, again))
    assert np.array_equal(one, two)


def test_reconstruction_of_an_icon_and_tokens_that_know_their_model(pipeline, tmp_path):
    tokenizer = pipeline.image_tokenizer
    images = torch.from_numpy(np.stack([np.asarray(draw_icon("red", shape)) for shape in ("circle", "cross")]))
    images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    tokens = tokenizer.encode(images)
    error = (tokenizer.decode(tokens) - images).square().mean() / 4
    assert -10 * error.log10() > 25
    tokens.save(tmp_path / "icon.safetensors")
    assert Tokens.load(tmp_path / "icon.safetensors", model=NAME).model == NAME
    with pytest.raises(ValueError, match="made by somebody/else, they cannot be decoded by photophone/tiny-image"):
        tokenizer.decode(Tokens(tokens.values, model="somebody/else"))
