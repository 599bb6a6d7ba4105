"""SpeechEnhancementPipeline with GenSE: from official files, piece by piece, and what it refuses."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import shake

from photophone import GenSEEnhancer, GenSEUnits, SpeechEnhancementPipeline, create_model
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.gense.condition import GenSESampler, NoisyUnits, TokenChain
from photophone.loading.files import read_content
from photophone.loading.registry import find

DATA = Path(__file__).parent / "goldens" / "data" / "gense"
TINY = find("gense-enhancer").tiny
UNITS = {**find("gense-units").tiny, "width": 24, "num_heads": 2, "convs": [[8, 10, 5], [8, 8, 8]]}
MODELS = {"num_semantic": 20, "width": 32, "depth": 2, "num_heads": 4}
CODEC = {"encoder_filters": 2, "decoder_filters": 2, "dim": 12, "rates": [5, 4, 2], "kernels": [11, 8, 4],
         "num_codes": 40}
CONFIGS = {"units": UNITS, "n2s": {**MODELS, "num_positions": 64}, "codec": CODEC,
           "s2s": {**MODELS, "num_codes": 40, "num_positions": 1040}}
FAIRSEQ = [(r"(conv_layers\.\d+)\.conv\.", r"\1.0."), (r"(conv_layers\.\d+)\.layer_norm\.", r"\1.2.1."),
           (r"^feature_projection\.projection\.", "post_extract_proj."),
           (r"^feature_projection\.layer_norm\.", "layer_norm."),
           (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0$", "pos_conv.0.weight_g"),
           (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1$", "pos_conv.0.weight_v"),
           (r"pos_conv_embed\.conv\.", "pos_conv.0."),
           (r"(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
           (r"\.attention\.", ".self_attn."), (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
           (r"\.feed_forward\.output_dense\.", ".fc2.")]


def fairseq(units):
    """The network's weights under the keys of the published checkpoint, with what that has besides."""
    made = {}
    for key, value in units.network.state_dict().items():
        name = key
        for pattern, new in FAIRSEQ:
            name = re.sub(pattern, new, name)
        if name != "masked_spec_embed":
            made[f"xlsr.{name}"] = value
    layers = [key for key in made if ".layers.0." in key]
    made |= {key.replace(".layers.0.", ".layers.2."): made[key] for key in layers}  # layers behind the one that is read
    width = units.config.width
    return made | {"xlsr.encoder.layer_norm.weight": torch.ones(width), "xlsr.mask_emb": torch.ones(width),
                   "xlsr.encoder.layer_norm.bias": torch.ones(width), "xlsr.quantizer.vars": torch.ones(1, 2, 3),
                   "xlsr.final_proj.weight": torch.ones(4, width)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Lightning checkpoints of both models, as the official code reads them."""
    folder = tmp_path_factory.mktemp("gense")
    torch.manual_seed(0)
    network = fairseq(shake(GenSEUnits(**UNITS), scale=0.1))
    for name in ("n2s", "s2s"):
        state = {**read_content(DATA / f"{name}.safetensors").values, **network}
        state["lm.lm_head.weight"] = state["lm.transformer.wte.weight"]
        torch.save({"state_dict": state, "epoch": 3}, folder / f"{name}.ckpt")
    return {name: folder / f"{name}.ckpt" for name in ("n2s", "s2s")}


@pytest.fixture(scope="module")
def pipeline(files):
    return SpeechEnhancementPipeline.from_original("gense", configs=CONFIGS, **files)


def sound(seconds, rows=1):
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(rows, 1, round(16000 * seconds), generator=generator)


def test_two_files_make_the_whole_chain(pipeline):
    enhancer = pipeline.enhancer
    assert isinstance(enhancer, GenSEEnhancer) and enhancer.codec.hop_length == 40
    audio, noise = sound(0.03, rows=2), SeededNoise.from_seeds([0, 0])
    noisy, codes = enhancer.units(audio[:, 0]), enhancer.codec.encode(audio).values
    assert noisy.shape == (2, (480 + 100 - 45) // 40 + 1) and codes.shape == (2, 12)
    clean = enhancer.n2s.generate(NoisyUnits(noisy), noise=noise, sampler=GenSESampler()).values
    made = enhancer.s2s.generate(TokenChain(noisy, None, clean, codes), noise=noise, sampler=GenSESampler()).values
    assert made.shape[1] == (2 * noisy.shape[1] + codes.shape[1]) // 2
    expected = enhancer.codec.decode(Tokens(made))[..., :480]
    torch.testing.assert_close(enhancer.enhance(audio), expected)


@pytest.mark.parametrize("seconds", [0.02, 0.21])
def test_recordings_stay_as_long_as_they_were_and_repeat(pipeline, seconds):
    pipeline.enhancer.register_to_config(piece_seconds=0.02)
    audio = sound(seconds)[0, 0].numpy()
    one, two = (pipeline(audio, 16000).audio[0] for _ in range(2))
    assert one.shape == audio.shape and np.isfinite(one).all() and np.array_equal(one, two)


def test_greedy_runs_draw_nothing_and_seeds_differ(pipeline):
    audio, parts = sound(0.03), {name: getattr(pipeline.enhancer, name) for name in ("units", "n2s", "s2s", "codec")}
    made = {options: GenSEEnhancer.from_parts(**parts, temperature=options[0], seed=options[1]).enhance(audio)
            for options in ((0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2))}
    assert torch.equal(made[0.0, 1], made[0.0, 2]) and not torch.equal(made[1.0, 1], made[1.0, 2])


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="agree on num_codes, they have 40, 41"):
        GenSEEnhancer(**{**TINY, "s2s_config": {**TINY["s2s_config"], "num_codes": 41}})
    with pytest.raises(ValueError, match="agree on num_codebooks, they have 1, 2"):
        GenSEEnhancer(**{**TINY, "codec_config": {**TINY["codec_config"], "num_layers": 2}})


@pytest.mark.parametrize("count", [64, 65, 200])
def test_more_units_than_there_are_positions_are_refused(count):
    model = create_model("gense-n2s", **find("gense-n2s").tiny)
    with pytest.raises(ValueError, match=f"needs {count + 1} positions, this model has 64"):
        model.check_condition(NoisyUnits(torch.zeros(1, count, dtype=torch.long)))
    model.check_condition(NoisyUnits(torch.zeros(1, 63, dtype=torch.long)))


def test_wrong_chains_are_refused():
    model = create_model("gense", **find("gense").tiny)
    given = vars(model.example_condition(2))
    for changes, words in [({"clean_units": None}, "needs clean_units and codes"),
                           ({"codes": given["codes"] + 40}, "codes must lie in 0..39"),
                           ({"clean_units": given["clean_units"][:, 1:]}, "as many clean units"),
                           ({"units": given["units"].float()}, "must be Long"),
                           ({"lengths": torch.tensor([5, 0])}, "at least one semantic unit")]:
        with pytest.raises(ValueError, match=words):
            model.check_condition(TokenChain(**{**given, **changes}))


def test_missing_files_are_named(files):
    with pytest.raises(ValueError, match="gense"):
        SpeechEnhancementPipeline.from_original("gense", configs=CONFIGS, n2s=files["n2s"], local_files_only=True)


@pytest.mark.parametrize("count", [1600, 1601, 3200, 3201, 3520, 3519, 4000])
def test_pieces_are_blended_so_that_each_sample_counts_once(count, monkeypatch):
    enhancer = shake(GenSEEnhancer(**TINY))
    monkeypatch.setattr(enhancer, "_piece", lambda audio: audio.clone())
    audio = sound(0.25)[..., :count]
    torch.testing.assert_close(enhancer.enhance(audio), audio)
