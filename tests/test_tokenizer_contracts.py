"""What every registered image tokenizer must do: a model is tested by being registered."""

import copy
import inspect
import json
import pickle

import pytest
import torch
from elsewhere import AWAY, Elsewhere
from tiny import Hostile, build, distinct

from photophone import SeededNoise, Tokens, create_model, list_models
from photophone.loading.registry import find
from photophone.tokenizers.base import ImageTokenizer

TOKENIZERS = distinct("image_tokenizer")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def pictures(model, rows=3):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(rows, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(model.image_size,) * 2, mode="bilinear")


def settings(model):
    """The config as a file holds it."""
    return {key: value for key, value in json.loads(json.dumps(model.config)).items() if not key.startswith("_")}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_saved_weights_give_bit_equal_outputs(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert not again.training and settings(again) == settings(model)
    for (key, ours), (_, loaded) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(ours, loaded), key
    tokens = model.encode(pictures(model))
    assert torch.equal(again.encode(pictures(model)).values, tokens.values)
    assert torch.equal(again.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("file", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"])
def test_hostile_weights_do_not_run(file, tmp_path):
    model, folder, marker = build(TOKENIZERS[0]), tmp_path / "model", tmp_path / "code-ran"
    model.save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    (folder / file).write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    with pytest.raises((OSError, ValueError, pickle.UnpicklingError)):
        type(model).from_pretrained(folder)
    assert not marker.exists()
    pickle.loads((folder / file).read_bytes())  # the file is hostile indeed
    assert marker.exists()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_model_on_another_device_moves_what_it_is_given(name):
    model = build(name)
    images = pictures(model)
    tokens = model.encode(images)
    pixels = model.decode(tokens)
    with Elsewhere():
        far = copy.deepcopy(model).to(AWAY)
        made, drawn = far.encode(images), far.decode(tokens)
        assert made.values.device == drawn.device == AWAY
        torch.testing.assert_close(made.values.to("cpu"), tokens.values, **CLOSE)
        torch.testing.assert_close(drawn.to("cpu"), pixels, rtol=1e-4, atol=5e-5)  # attention of another order


@pytest.mark.parametrize("name", TOKENIZERS)
def test_encode_and_decode_keep_no_gradients(name):
    model = build(name)
    images = pictures(model).requires_grad_(True)
    tokens = model.encode(images)
    assert not tokens.values.requires_grad and not model.decode(tokens).requires_grad
    assert model.latents(images.detach()).requires_grad


def test_families_leave_the_checks_to_the_base():
    for target in {entry.target: entry for entry in list_models("image_tokenizer")}.values():
        family = target.load_class()
        assert family.encode is ImageTokenizer.encode and family.decode is ImageTokenizer.decode
        for method, known in ((family._encode, family.encode_options), (family._decode, family.decode_options)):
            own = set(inspect.signature(method).parameters) - {"self", "images", "noise", "tokens"}
            assert own == set(known), family


@pytest.mark.parametrize("name", TOKENIZERS)
def test_unknown_options_are_refused(name):
    model = build(name)
    with pytest.raises(TypeError, match="takes no colour"):
        model.encode(pictures(model), colour=1)
    with pytest.raises(TypeError, match="takes no colour"):
        model.decode(model.encode(pictures(model)), colour=1)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_latents_are_what_the_bottleneck_reads(name):
    model, given = build(name), []
    images = pictures(model)
    watch = model.bottleneck.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0]))
    try:
        with torch.no_grad():
            output = model(images)
            latents = model.latents(images)
    finally:
        watch.remove()
    assert torch.equal(given[0], latents) and latents.shape[2] == model.bottleneck.dim
    assert output.values.shape[0] == 3 and output.values.shape[2] == model.values_dim


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if build(name).codebook_size is None])
def test_noise_draws_tokens_and_reaches_the_bottleneck(name):
    """Gaussian tokens follow the noise in encoding and in training; all others are the same with and without."""
    model = build(name)
    images = pictures(model, 2)
    gaussian = model.bottleneck.dim == 2 * model.token_dim
    mean = model.encode(images).values
    drawn = [model.encode(images, noise=SeededNoise.from_seeds(seeds)).values for seeds in ([1, 2], [1, 2], [3, 4])]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2]) == (not gaussian)
    assert torch.allclose(drawn[0], mean, **CLOSE) == (not gaussian)
    with torch.no_grad():
        trained = [model(images, noise=SeededNoise.from_seeds(seeds)).values for seeds in ([1, 2], [1, 2], [3, 4])]
    assert torch.equal(trained[0], trained[1]) and torch.equal(trained[0], trained[2]) == (not gaussian)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_crops_are_read_where_they_are_promised(name):
    model = build(name)
    stride = model.crop_stride
    if stride is None:
        assert model.num_tokens == model.fixed_length
        return
    side = stride * max(1, model.image_size // stride // 2)
    with torch.no_grad():
        assert model(pictures(model)[..., :side, :side]).media.shape == (3, 3, side, side)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_agree_with_the_properties(name):
    model = build(name)
    images = pictures(model)
    tokens = model.encode(images)
    if model.codebook_size is None:
        assert tokens.values.shape == (3, model.num_tokens, model.token_dim) and tokens.is_continuous
    else:
        books = () if model.num_codebooks == 1 else (model.num_codebooks,)
        assert model.token_dim is None and tokens.values.shape == (3, *books, model.num_tokens)
        assert int(tokens.values.min()) >= 0 and int(tokens.values.max()) < model.codebook_size
    assert not torch.equal(tokens.values[0], tokens.values[1])
    decoded = model.decode(tokens)
    assert decoded.shape == images.shape and decoded.dtype == torch.float32
    assert -1 <= float(decoded.min()) < float(decoded.max()) <= 1


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_batch_of_images_equals_its_rows(name):
    model = build(name)
    images = pictures(model, 8)
    tokens = model.encode(images)
    decoded = model.decode(tokens)
    for row in range(8):
        torch.testing.assert_close(model.encode(images[row:row + 1]).values, tokens[row].values, **CLOSE)
        torch.testing.assert_close(model.decode(tokens[row]), decoded[row:row + 1], **CLOSE)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_wrong_images_are_refused(name):
    model = build(name)
    images, size = pictures(model), model.image_size
    nan = images.clone()
    nan[1, 0, 0, 0] = torch.nan
    for bad, words in [(images[0], "shape"), (images[:, :1], "shape"), (images[..., : size - 1], f"{size}x{size}"),
                       (images.byte(), "uint8"), (images * 127, "values from"), (nan, "nan")]:
        with pytest.raises(ValueError, match=words):
            model.encode(bad)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_wrong_tokens_are_refused(name):
    model = build(name)
    values = model.encode(pictures(model)).values
    if model.codebook_size is None:
        nan = values.clone()
        nan[0, 0, 0] = torch.nan
        bad = [(values[:, 1:], "decodes float"), (values[..., 1:], "decodes float"), (nan, "NaN"),
               (torch.zeros(3, model.num_tokens, dtype=torch.long), "decodes float")]
    else:
        high, low = values.clone(), values.clone()
        high[0, 0], low[-1, -1] = model.codebook_size, -1
        bad = [(values[..., 1:], "decodes Long"), (torch.zeros(3, model.num_tokens, 8), "decodes Long"),
               (high, "codes must lie in"), (low, "codes must lie in")]
    for tokens, words in bad:
        with pytest.raises(ValueError, match=words):
            model.decode(Tokens(tokens))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_train(name):
    """Loss and metrics are finite scalars, and every weight gets a gradient: an unused one breaks DDP."""
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).train()
    images = pictures(model, 4)
    output = model(images)
    assert output.media.shape == images.shape and output.loss.shape == ()
    ((output.media - images).square().mean() + output.loss).backward()
    assert all(bool(value.isfinite().all()) for value in (output.loss, *output.metrics.values()))
    assert not any(value.requires_grad for value in output.metrics.values())
    missing = [key for key, weight in model.named_parameters() if weight.grad is None]
    assert not missing


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_run_in_bfloat16(name, tmp_path):
    build(name).save_pretrained(tmp_path)
    model = type(build(name)).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    images = pictures(model)
    for given in (images, images.bfloat16()):
        decoded = model.decode(model.encode(given))
        assert decoded.shape == images.shape and bool(decoded.isfinite().all())
