"""What every registered image tokenizer and generator must do: a model is tested by being registered."""

import json
import pickle

import pytest
import torch
from families import FLOW_AR_FAMILY, OPTIONS, family_of, take
from tiny import Hostile, shake

from photophone import SeededNoise, Tokens, create_model, list_models
from photophone.decoding.loop import DecodingStopped, cosine_reveal_counts
from photophone.loading.entry import KINDS
from photophone.loading.registry import REGISTRY, find

TOKENIZERS = [entry.name for entry in list_models("image_tokenizer")]
OWN_TESTS = ("photophone.generators.titok.model", "photophone.generators.sit.model", "photophone.generators.speech_ar",
             "photophone.generators.voxcpm", "photophone.generators.cosyvoice", "photophone.generators.llase_g1")
"""Families whose contract is held by generators/test_class_generators.py or test_generator_contracts.py."""
GENERATORS = [entry.name for entry in list_models("generator") if not entry.target.startswith(OWN_TESTS)]
FLOW_AR = [name for name in GENERATORS if find(name).target.endswith(":FlowARGenerator")]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
_BUILT = {}


def build(name):
    """The registered model, made small where its entry says how, with random weights, built once."""
    if name not in _BUILT:
        torch.manual_seed(0)
        model = shake(create_model(name, **find(name).tiny), scale=0.02)
        if hasattr(model, "set_statistics"):
            config = model.config
            model.set_statistics(0.3 + 1.5 * torch.randn(32, config.num_tokens, config.token_dim))
        _BUILT[name] = model
    return _BUILT[name]


def pictures(model, rows=3):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(rows, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(model.image_size,) * 2, mode="bilinear")


def settings(model):
    """The config as its file holds it."""
    return {key: value for key, value in json.loads(model.to_json_string()).items() if not key.startswith("_")}


def test_entries_are_complete():
    assert set(TOKENIZERS) and set(GENERATORS)
    for name, entry in REGISTRY.items():
        assert name == entry.name == name.lower() and " " not in name
        assert entry.kind in KINDS
        for value in (entry.summary, entry.paper, entry.code_licence, entry.weights_licence):
            assert value.strip() and "\n" not in value, name
        assert entry.target.startswith("photophone.") and isinstance(entry.load_class(), type)
        assert entry.hub_id or not entry.files, name  # file names may be unknown


@pytest.mark.parametrize("name", TOKENIZERS + GENERATORS)
def test_saved_weights_give_bit_equal_outputs(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert not again.training and settings(again) == settings(model)
    for (key, ours), (_, loaded) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(ours, loaded), key
    if name in TOKENIZERS:
        tokens = model.encode(pictures(model))
        assert torch.equal(again.encode(pictures(model)).values, tokens.values)
        assert torch.equal(again.decode(tokens), model.decode(tokens))
    else:
        family = family_of(model)
        condition = family.condition(model, 2)
        ours, loaded = (family.generate(m, condition, SeededNoise.from_seeds([1, 2])) for m in (model, again))
        assert torch.equal(ours.values, loaded.values)


@pytest.mark.parametrize("file", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize("name", [TOKENIZERS[0], GENERATORS[0]])
def test_hostile_weights_do_not_run(name, file, tmp_path):
    model, folder, marker = build(name), tmp_path / "model", tmp_path / "code-ran"
    model.save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    (folder / file).write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    with pytest.raises((OSError, ValueError, pickle.UnpicklingError)):
        type(model).from_pretrained(folder)
    assert not marker.exists()
    pickle.loads((folder / file).read_bytes())  # the file is hostile indeed
    assert marker.exists()


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
    reconstruction, loss, metrics = model(images)
    assert reconstruction.shape == images.shape and loss.shape == ()
    ((reconstruction - images).square().mean() + loss).backward()
    assert all(bool(value.isfinite().all()) for value in (loss, *metrics.values()))
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


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_means_the_same_tokens_in_any_batch(name):
    model, seeds = build(name), [5, 3, 5, 8, 13, 21, 34, 55]
    family = family_of(model)
    condition = family.condition(model, 8)
    batch = family.generate(model, condition, SeededNoise.from_seeds(seeds)).values
    assert batch.shape == (8, *family.shape(model)) and bool(batch.isfinite().all())
    for row, seed in enumerate(seeds):
        alone = family.generate(model, take(condition, [row]), SeededNoise.from_seeds([seed])).values
        torch.testing.assert_close(alone[0], batch[row], **CLOSE)
    assert not torch.allclose(batch[0], batch[2], **CLOSE)  # one seed, two conditions


def reference_generate(model, condition, noise):
    """Generation without cache: the hidden states of the whole sequence are computed anew for each step."""
    ids, mask, null = condition
    rows, config = len(ids), model.config
    null_mask = torch.zeros_like(mask)
    null_mask[:, 0] = True
    ids, mask = torch.cat([ids, null.expand(rows, -1)]), torch.cat([mask, null_mask])
    options = {"guidance": OPTIONS["guidance_scale"], "temperature": OPTIONS["temperature"], "noise": noise,
               "num_steps": OPTIONS["num_inference_steps"]}
    values = torch.zeros(rows, config.num_tokens, config.token_dim)
    if config.order == "random":
        order = noise.permutation(rows, config.num_tokens)
        counts = cosine_reveal_counts(config.num_tokens, config.num_tokens // 4)
        steps = [part.tolist() for part in order.split(counts, dim=1)]
    else:
        cell = config.cell_size if config.order == "next_x" else 1
        steps = [[list(range(start, start + cell))] * rows for start in range(0, config.num_tokens, cell)]
    known = torch.zeros(rows, config.num_tokens, dtype=torch.bool)
    for places in steps:
        masked = (~known).repeat(2, 1) if config.order == "random" else None
        hidden = model.hidden(ids, mask, values.repeat(2, 1, 1), masked)
        wanted = torch.stack([hidden[row, places[row % rows]] for row in range(2 * rows)])
        drawn = model.token_head.sample(wanted, **options)
        for row, place in enumerate(places):
            values[row, place], known[row, place] = drawn[row], True
    return values * model.token_std + model.token_mean


@pytest.mark.parametrize("name", FLOW_AR)
def test_cached_decoding_equals_a_full_pass_for_each_step(name):
    model = build(name)
    condition = FLOW_AR_FAMILY.condition(model, 3)
    ours = model.generate(*condition, noise=SeededNoise.from_seeds([1, 2, 3]), **OPTIONS).values
    with torch.no_grad():
        expected = reference_generate(model, condition, SeededNoise.from_seeds([1, 2, 3]))
    torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.parametrize("name", FLOW_AR)
@torch.no_grad()
def test_hidden_states_do_not_see_what_comes_later(name):
    model = build(name)
    ids, mask, _ = FLOW_AR_FAMILY.condition(model, 2)
    length = model.config.num_tokens
    context = torch.randn(2, length, model.config.token_dim, generator=torch.Generator().manual_seed(3))
    other = context.clone()
    other[:, length // 2:] = 100.0
    if model.config.order == "random":
        masked = (torch.arange(length) >= length // 2).expand(2, -1)
        before, after = (model.hidden(ids, mask, tokens, masked) for tokens in (context, other))
        torch.testing.assert_close(before, after, **CLOSE)
        assert not torch.allclose(before, model.hidden(ids, mask, context + 1, masked), **CLOSE)
        return
    before, after = (model.hidden(ids, mask, tokens) for tokens in (context, other))
    seen = max(model.cell, length // 2 + model.cell)  # the cell after the first that changed
    torch.testing.assert_close(before[:, : length // 2 + 1], after[:, : length // 2 + 1], **CLOSE)
    if seen < length:
        assert not torch.allclose(before[:, seen:], after[:, seen:], **CLOSE)


@pytest.mark.parametrize("name", FLOW_AR)
def test_padding_of_captions_changes_nothing(name):
    model = build(name)
    ids, mask, null = FLOW_AR_FAMILY.condition(model, 4, 12)
    noise = SeededNoise.from_seeds
    expected = model.generate(ids, mask, null, noise=noise([1, 2, 3, 4]), **OPTIONS).values
    rubbish = torch.where(mask, ids, 7)
    longer = [torch.nn.functional.pad(tensor, (0, 5)) for tensor in (rubbish, mask, null)]
    for given in ((rubbish, mask, null), longer):
        torch.testing.assert_close(model.generate(*given, noise=noise([1, 2, 3, 4]), **OPTIONS).values, expected,
                                   **CLOSE)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_train(name):
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).train()
    loss = family_of(model).loss(model, 8)
    loss.backward()
    assert loss.shape == () and bool(loss.isfinite())
    assert not [key for key, weight in model.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("name", GENERATORS)
def test_the_callback_counts_and_stops(name):
    model, seen = build(name), []
    family = family_of(model)
    condition, noise = family.condition(model, 1), SeededNoise.from_seeds([1])
    family.generate(model, condition, noise, callback=lambda step, total: seen.append((step, total)))
    assert seen == [(step, len(seen)) for step in range(1, len(seen) + 1)] and seen
    with pytest.raises(DecodingStopped, match="after step 1 of"):
        family.generate(model, condition, noise, callback=lambda step, total: True)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_run_in_bfloat16(name, tmp_path):
    build(name).save_pretrained(tmp_path)
    model = type(build(name)).from_pretrained(tmp_path, dtype=torch.bfloat16)
    family = family_of(model)
    tokens = family.generate(model, family.condition(model, 2), SeededNoise.from_seeds([1, 2]))
    assert bool(tokens.values.isfinite().all())
