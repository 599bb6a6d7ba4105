"""Latent1D beyond the contract: settings, training noise, the frozen encoder."""

import pytest
import torch
from tiny import SMALL_TOKENIZER, shake

from photophone import Latent1DTokenizer, ReplayNoise


def build(**changes):
    torch.manual_seed(0)
    return shake(Latent1DTokenizer(**{**SMALL_TOKENIZER, **changes}))


def images(rows=2):
    return torch.rand(rows, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("changes", "words"), [
    ({"stem": "wavelet"}, "'wavelet'"), ({"image_size": 18}, "18 is not a multiple of the stem's stride 4"),
    ({"decoder_channels": [32, 32]}, "need one stride, got 4 .* and 8"),
    ({"width": 32}, "width must be a multiple of 64, got 32"),
    ({"width": 100}, "width must be a multiple of 64, got 100"), ({"quantizer": "magic"}, "unknown quantizer 'magic'"),
])
def test_wrong_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Latent1DTokenizer(**{**SMALL_TOKENIZER, **changes})


@pytest.mark.parametrize("changes", [{}, {"stem": "patch", "patch": 4}, {"image_size": 32, "num_tokens": 9}], ids=str)
def test_latents_are_normalised(changes):
    model = build(**changes)
    values = model.encode(torch.nn.functional.interpolate(images(), size=model.image_size)).values
    torch.testing.assert_close(values.mean(-1), torch.zeros(values.shape[:2]), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.std(-1, unbiased=False), torch.ones(values.shape[:2]), rtol=0, atol=1e-3)


def test_the_decoder_may_be_finer_than_the_encoder():
    model = build(decoder_patch=1, decoder_channels=[32, 32], decoder_conv_depths=[1, 1])
    assert model.decode(model.encode(images())).shape == (2, 3, 16, 16)
    assert model.to_grid[1].in_channels == 3 * 2**2 and model.last_layer.shape[0] == 3


def test_noise_is_added_in_training_alone():
    model = build(latent_noise=0.5)
    latents, noise = model.encode(images()).values, torch.randn(2, 4, 8)
    expected = model.reconstruct(latents + 0.5 * noise)
    torch.testing.assert_close(model.train()(images(), ReplayNoise(normal=[noise])).media, expected)
    torch.testing.assert_close(model.eval()(images(), ReplayNoise()).media, model.reconstruct(latents))


def test_a_gaussian_bottleneck_follows_the_noise():
    model = build(quantizer="gaussian", latent_noise=0.0)
    mean, log_variance = model.latents(images()).chunk(2, dim=-1)
    draws = torch.randn(2, 4, 8)
    expected = mean + (0.5 * log_variance).exp() * draws
    torch.testing.assert_close(model.train()(images(), ReplayNoise(normal=[draws])).values, expected)
    torch.testing.assert_close(model.eval().encode(images(), ReplayNoise(normal=[draws])).values, expected)


def test_a_frozen_encoder_keeps_its_latents():
    """Training the decoder alone must not move the latents that a generator learned from."""
    model = build()
    before = model.encode(images()).values
    model.freeze_encoder()
    fixed = {name: weight.clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(3):
        loss = (model.train()(images()).media - images()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(fixed) > 10 and all(torch.equal(model.get_parameter(name), weight) for name, weight in fixed.items())
    torch.testing.assert_close(model.eval().encode(images()).values, before)  # frozen weights may take another kernel
    trained = {key.split(".")[0] for key, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"from_latent", "decoder_grid", "decoder_queries", "decoder_mixer", "decoder_blocks",
                       "decoder_norm", "to_pixels"}


def test_refining_lowers_every_image_error_and_keeps_rows_apart():
    model, batch = build(), images(3)
    error = lambda tokens: (model.decode(tokens) - batch[: len(tokens)]).square().mean(dim=(1, 2, 3))  # noqa: E731
    refined = model.encode(batch, refine_steps=8)
    assert (error(refined) < error(model.encode(batch))).all()
    torch.testing.assert_close(model.encode(batch[:1], refine_steps=8).values, refined.values[:1], rtol=1e-4, atol=1e-4)


def test_refining_is_adam():
    model, batch = build(), images()
    latents = model.latents(batch).detach().requires_grad_(True)
    adam = torch.optim.Adam([latents], lr=0.05, eps=1e-8)
    for _ in range(4):
        adam.zero_grad()
        (model.reconstruct(latents) - batch).square().mean(dim=(1, 2, 3)).log().sum().backward()
        adam.step()
    torch.testing.assert_close(model.encode(batch, refine_steps=4).values, latents.detach(), rtol=1e-4, atol=1e-5)


def test_refining_needs_continuous_tokens():
    with pytest.raises(ValueError, match="refine_steps 3 .* 16 codes"):
        build(quantizer="vq", quantizer_config={"codebook_size": 16}).encode(images(), refine_steps=3)
    with pytest.raises(ValueError, match="refine_steps -1"):
        build().encode(images(), refine_steps=-1)
