"""VoxCPM beyond the contract: cache, padding, stopping, sequences, sizes and published settings."""

from dataclasses import replace

import pytest
import torch
from speech import RoomyNoise
from tiny import shake

from photophone import SeededNoise, Tokens, create_model
from photophone.codecs.audio_vae.config import codec_config
from photophone.generators.speech_sequence import SpeechSequence, append_speech
from photophone.generators.voxcpm.config import generator_config
from photophone.generators.voxcpm.model import AUDIO_START, REFERENCE_END, REFERENCE_START
from photophone.generators.voxcpm.sampler import VoxCPMSampler
from photophone.heads.prefix_dit import pack_condition
from photophone.layers.flow import sway_grid, without_first_steps
from photophone.loading.registry import find

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
NAMES = ["voxcpm-0.5b", "voxcpm-2"]
NUMBERS = {"num_inference_steps": 3, "max_patches": 4, "min_patches": 4}


def build(name, **overrides):
    torch.manual_seed(0)
    return shake(create_model(name, **find(name).tiny | overrides), scale=0.02)


@pytest.fixture(params=NAMES)
def model(request):
    return build(request.param)


def generate(model, sequence, seeds, **options):
    return model.generate(sequence, noise=SeededNoise.from_seeds(seeds), sampler=VoxCPMSampler(**options))


def ends(model, last):
    """Let every patch be the last one, or none."""
    with torch.no_grad():
        model.stop_head.weight.zero_()
        model.stop_proj.weight.zero_()
        model.stop_proj.bias.fill_(1.0)
        model.stop_head.weight[int(last)] = 1.0
    return model


@torch.no_grad()
def test_cached_decoding_equals_a_full_pass_for_each_patch(model):
    sequence = model.example_condition(3)
    ours = generate(model, sequence, [1, 2, 3], **NUMBERS).values
    noise, made = SeededNoise.from_seeds([1, 2, 3]), []
    for _ in range(4):
        lm, residual = (states[:, -1] for states in model.states(sequence))
        states = model.head_condition(lm, residual)
        hidden = pack_condition(torch.cat([states, 0 * states]), sequence.patches[:, -1].repeat(2, 1, 1))
        patch = model.token_head.sample(hidden, guidance=2.0, noise=noise, scaled_guidance=True,
                                        times=without_first_steps(sway_grid(3, dtype=torch.float32)))
        made.append(patch)
        new = torch.ones(3, 1, dtype=torch.bool)
        sequence = SpeechSequence(torch.cat([sequence.text_ids, torch.zeros(3, 1).long()], 1),
                                  torch.cat([sequence.audio_mask, new], 1),
                                  torch.cat([sequence.patches, patch[:, None]], 1),
                                  torch.cat([sequence.mask, new], 1))
    torch.testing.assert_close(ours, torch.cat(made, dim=1), **CLOSE)


def test_a_row_does_not_depend_on_the_padding_before_it(model):
    texts = [[5, 6, 7, 8, 9, 10], [11, 12]]
    voices = [None, torch.randn(4, 16, generator=torch.Generator().manual_seed(1))]
    batch = generate(model, model.prepare(texts, voices), [3, 4], **NUMBERS).values
    for row, seed in enumerate([3, 4]):
        sequence = model.prepare([texts[row]], [voices[row]])
        assert bool(sequence.mask.all())
        alone = generate(model, sequence, [seed], **NUMBERS).values
        torch.testing.assert_close(alone[0], batch[row], **CLOSE)


def test_rows_have_limits_of_their_own(model):
    sequence = replace(model.example_condition(2), max_patches=torch.tensor([9, 2]))
    whole = generate(model, sequence, [1, 2], **NUMBERS)
    chunks = list(model.stream(sequence, noise=SeededNoise.from_seeds([1, 2]), sampler=VoxCPMSampler(**NUMBERS)))
    assert torch.equal(sum(chunk.lengths for chunk in chunks), whole.lengths)
    assert whole.lengths.tolist() == [8, 4] and all(chunk.values.shape == (2, 2, 16) for chunk in chunks)


def test_the_stop_counts_after_the_least_number_of_patches(model):
    sequence = model.example_condition(1)
    options = {"num_inference_steps": 2, "max_patches": 8}
    stopped = generate(ends(model, True), sequence, [1], **options)
    assert stopped.lengths.tolist() == [2 * 4]  # the official code looks from index 3 on
    assert generate(ends(model, False), sequence, [1], **options).lengths.tolist() == [2 * 8]


def test_the_layout_of_a_sequence(model):
    voice, reference = torch.ones(2, 16), torch.full((4, 16), 2.0)
    sequence = model.prepare([[7, 8], [9]], [voice, None], [None, reference])
    assert sequence.text_ids[0].tolist() == [0, 0, 7, 8, AUDIO_START, 0]
    assert sequence.text_ids[1].tolist() == [REFERENCE_START, 0, 0, REFERENCE_END, 9, AUDIO_START]
    assert sequence.mask[0].tolist() == [False, False, True, True, True, True] and bool(sequence.mask[1].all())
    assert sequence.audio_mask.nonzero().tolist() == [[0, 5], [1, 1], [1, 2]]
    assert sequence.patches.flatten(2).amax(-1).tolist() == [[0, 0, 0, 0, 0, 1], [0, 2, 2, 0, 0, 0]]


def test_misuse_is_refused(model):
    with pytest.raises(ValueError, match="needs a text"):
        model.prepare([[1], []])
    for wrong in (torch.zeros(3, 16), torch.zeros(2, 15), torch.zeros(0, 16)):
        with pytest.raises(ValueError, match="multiple of 2"):
            model.prepare([[1]], [wrong])
    sequence = model.prepare([[1, 2]])
    with pytest.raises(ValueError, match="do not fit the model's 48"):
        generate(model, sequence, [1], max_patches=46)
    with pytest.raises(ValueError, match="max_patches must be at least 1, got 0"):
        VoxCPMSampler(max_patches=0)
    for change, words in (({"text_ids": sequence.text_ids + 128}, r"must lie in 0\.\.127"),
                          ({"patches": sequence.patches[..., 1:]}, "patches must be float"),
                          ({"mask": ~sequence.mask}, "padded on the left"),
                          ({"audio_mask": sequence.audio_mask.long()}, "audio_mask must be bool"),
                          ({"max_patches": torch.ones(2).long()}, "max_patches must be Long")):
        with pytest.raises(ValueError, match=words):
            generate(model, replace(sequence, **change), [1])
    with pytest.raises(ValueError, match="whole patches of 2 tokens"):
        model.loss(Tokens(torch.zeros(1, 3, 16)), sequence)


def test_states_and_losses_do_not_see_what_comes_later(model):
    sequence = model.example_condition(2)
    other = replace(sequence, patches=sequence.patches.clone(), text_ids=sequence.text_ids.clone())
    other.patches[:, -1], other.text_ids[:, -1] = 9.0, 9
    with torch.no_grad():
        for before, after in zip(model.states(sequence), model.states(other)):
            torch.testing.assert_close(before[:, :-1], after[:, :-1], **CLOSE)
            assert not torch.allclose(before[:, -1], after[:, -1], **CLOSE)


def test_speech_to_learn_follows_its_text(model):
    sequence = model.prepare([[7, 8], [9]])
    patches = torch.arange(2 * 3 * 2 * 16).reshape(2, 3, 2, 16).float()
    longer, target, stop = append_speech(sequence, patches, torch.tensor([1, 3]))
    assert longer.text_ids.tolist() == [[7, 8, AUDIO_START, 0, 0, 0], [0, 9, AUDIO_START, 0, 0, 0]]
    assert target.tolist() == [[False] * 3 + [True, False, False], [False] * 3 + [True] * 3]
    assert stop.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]
    assert longer.mask.tolist() == [[True] * 4 + [False] * 2, [False] + [True] * 5]
    assert torch.equal(longer.patches[:, 3:], patches)


@torch.no_grad()
def test_the_loss_of_a_row_does_not_depend_on_longer_ones(model):
    """The loss of a batch is the mean over the patches of its rows, each with its own draws."""
    condition, tokens = model.example_condition(3), model.example_tokens(3)
    both = model.loss(tokens, condition, noise=RoomyNoise([1, 2, 3]))
    alone = [model.loss(Tokens(tokens.values[[row], :count]), condition[[row]], noise=RoomyNoise([row + 1]))
             for row, count in enumerate(tokens.lengths.tolist())]
    for name, value in both.metrics.items():
        rows = torch.stack([output.metrics[name] for output in alone])
        torch.testing.assert_close(value, (rows * tokens.lengths).sum() / tokens.lengths.sum(), **CLOSE)


def test_version_1_adds_what_version_2_concatenates():
    first, second = (build(name) for name in NAMES)
    assert first.fuse is None and second.fuse.in_features == 64
    assert second.token_head.net.num_states == 2 and first.token_head.net.num_states == 1


def parameters(name):
    with torch.device("meta"):
        return sum(weight.numel() for weight in create_model(name).parameters())


def test_sizes_are_those_of_the_published_files():
    """Bytes of VoxCPM 1.5's model.safetensors (bfloat16) and audiovae.pth (float32), headers aside."""
    assert 0 < 1_603_516_600 - 2 * parameters("voxcpm-1.5") < 100_000
    assert 0 < 346_023_712 - 4 * parameters("voxcpm-vae-44k") < 150_000
    assert parameters("voxcpm-2") > 2.2e9 and parameters("voxcpm-vae-48k") > 9e7


OFFICIAL = {
    "architecture": "voxcpm2", "patch_size": 4, "feat_dim": 64, "residual_lm_num_layers": 8, "max_length": 8192,
    "residual_lm_no_rope": True, "scalar_quantization_latent_dim": 512, "scalar_quantization_scale": 9,
    "lm_config": {"hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 32768,
                  "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
                  "rope_theta": 10000, "vocab_size": 73448, "use_mup": False, "scale_emb": 12, "dim_model_base": 256,
                  "scale_depth": 1.4, "kv_channels": 128, "rope_scaling": {
                      "type": "longrope", "long_factor": [1.0] * 64, "short_factor": None,
                      "original_max_position_embeddings": 32768}},
    "encoder_config": {"hidden_dim": 1024, "ffn_dim": 4096, "num_heads": 16, "num_layers": 12, "kv_channels": 128},
    "dit_config": {"hidden_dim": 1024, "ffn_dim": 4096, "num_heads": 16, "num_layers": 12, "kv_channels": 128,
                   "cfm_config": {"solver": "euler", "inference_cfg_rate": 2.0}},
    "audio_vae_config": {"encoder_dim": 128, "encoder_rates": [2, 5, 8, 8], "latent_dim": 64, "sample_rate": 16000}}


def test_published_settings_are_those_of_the_registry():
    entry = find("voxcpm-2")
    OFFICIAL["lm_config"]["rope_scaling"]["short_factor"] = entry.config["rotary_factors"]
    config = generator_config(OFFICIAL)
    with torch.device("meta"):
        ours = dict(create_model("voxcpm-2").config)
        vae = dict(create_model("voxcpm-vae-48k").config)
    assert {name: ours[name] for name in config} == config
    official = codec_config(OFFICIAL["audio_vae_config"], second=True)
    assert {name: list(vae[name]) if isinstance(vae[name], tuple) else vae[name] for name in official} == official
    with pytest.raises(ValueError, match="mean velocities"):
        generator_config({**OFFICIAL, "dit_mean_mode": True})
    with pytest.raises(ValueError, match="noise blocks"):
        codec_config({"use_noise_block": True}, second=False)


def test_tokens_of_the_generator_are_those_of_the_codec():
    codec = build("voxcpm-vae-48k")
    model = build("voxcpm-2")
    tokens = generate(model, model.example_condition(2), [1, 2], **NUMBERS)
    audio = codec.decode(tokens)
    assert audio.shape == (2, 1, 8 * codec.output_hop) and codec.output_sample_rate == 48000
    prompt = torch.randn(10, 16)
    assert torch.equal(model.context(prompt), prompt[-6:]) and isinstance(tokens, Tokens)
