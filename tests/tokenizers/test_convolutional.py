"""The convolutional tokenizers: published sizes, other sizes of images, samples of the KL autoencoder."""

import pytest
import torch

from photophone import SeededNoise, Tokens
from photophone.loading.registry import create_model, find
from photophone.quantizers.gaussian import mean_and_logvar
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.kl_vae.model import KLVAE

PARAMETERS = {  # of the official classes
    "llamagen-vq16-c2i": 71_883_403, "llamagen-vq16-t2i": 71_883_403, "llamagen-vq8-c2i": 70_109_835,
    "maskgit-vqgan-f16": 54_515_587, "mar-kl16": 66_456_019, "var-vq16-256": 108_948_355, "var-vq16-512": 108_948_355,
}
TOKENS = {"llamagen-vq16-c2i": 256, "llamagen-vq16-t2i": 256, "llamagen-vq8-c2i": 1024, "maskgit-vqgan-f16": 256,
          "mar-kl16": 256, "var-vq16-256": 680, "var-vq16-512": 2240}


def tiny(name, **overrides):
    torch.manual_seed(0)
    return create_model(name, **{**find(name).tiny, **overrides}).eval()


def images(model, rows=2):
    return torch.rand(rows, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    assert model.num_tokens == TOKENS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_training_pass_has_gradients_everywhere_and_agrees_with_the_tokens(name):
    model = tiny(name).train()
    pictures = images(model)
    output = model(pictures, noise=SeededNoise.from_seeds([0, 1]))
    reconstruction = output.media
    assert reconstruction.shape == pictures.shape
    (reconstruction.square().mean() + output.loss).backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    if model.codebook_size is not None:
        decoded = model.eval().decode(model.encode(pictures))
        torch.testing.assert_close(decoded, reconstruction.detach().clamp(-1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llamagen-vq16-c2i", "maskgit-vqgan-f16", "mar-kl16"])
def test_latents_and_reconstructions_of_other_sizes(name):
    model = tiny(name)
    latents = model.encode_grid(torch.zeros(1, 3, 24, 40))
    side = model.stride
    assert latents.shape[2:] == (24 // side, 40 // side)
    values = model.bottleneck.decode(model.bottleneck.encode(to_sequence(latents)))
    assert model.decode_grid(to_grid(values, latents.shape[2:])).shape == (1, 3, 24, 40)


def test_grid_and_sequence_are_inverse_and_row_by_row():
    grid = torch.arange(24.0).view(1, 2, 3, 4)
    assert torch.equal(to_grid(to_sequence(grid), (3, 4)), grid)
    assert to_sequence(grid)[0, :5, 0].tolist() == [0, 1, 2, 3, 4]


def test_kl_tokens_are_scaled_means_or_draws():
    model = tiny("mar-kl16")
    pictures = images(model)
    mean, logvar = mean_and_logvar(model.latents(pictures))
    tokens = model.encode(pictures)
    torch.testing.assert_close(tokens.values, mean * 0.2325)
    draws = SeededNoise.from_seeds([5, 6]).normal(*mean.shape)
    drawn = model.encode(pictures, noise=SeededNoise.from_seeds([5, 6])).values
    torch.testing.assert_close(drawn, (mean + torch.exp(0.5 * logvar) * draws) * 0.2325)
    expected = model.reconstruct(mean).clamp(-1, 1)
    torch.testing.assert_close(model.decode(tokens), expected)


def test_maskgit_works_on_pixels_from_zero_to_one():
    model = tiny("maskgit-vqgan-f16")
    pictures = images(model)
    torch.testing.assert_close(model.encode_grid(pictures), model.encoder((pictures + 1) / 2))


def test_var_scales_must_end_at_the_grid():
    with pytest.raises(ValueError, match="image_size / stride = 4, got 2"):
        tiny("var-vq16-256", scales=[1, 2])


@pytest.mark.parametrize("name", ["llamagen-vq16-c2i", "maskgit-vqgan-f16", "mar-kl16", "var-vq16-256"])
def test_settings_that_do_not_fit_are_refused(name):
    for size in (31, 0, -32):
        with pytest.raises(ValueError, match=f"image_size.*{size}"):
            tiny(name, image_size=size)
    with pytest.raises(ValueError, match="codes must lie|float tokens"):
        model = tiny(name)
        model.decode(Tokens(torch.full((1, model.num_tokens), 10**6)))


def test_kl_scaling_must_be_positive():
    with pytest.raises(ValueError, match="scaling.*0"):
        KLVAE(scaling=0.0, **{"channels": 32, "multipliers": [1], "encoder_attention_levels": []})
    with pytest.raises(ValueError, match="as many levels"):
        tiny("llamagen-vq16-c2i", decoder_multipliers=[1])
