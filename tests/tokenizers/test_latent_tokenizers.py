"""Tokenizers whose tokens lie on no grid, and the layers they share."""

import pytest
import torch
from tiny import shake

from photophone import ReplayNoise, SeededNoise
from photophone.layers.latent_vit import LatentEncoder, unpatchify
from photophone.layers.rope2d import MixedRope2d, rotate_pairs
from photophone.layers.transformer import FEED_FORWARDS, TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.registry import create_model, find
from photophone.tokenizers.softvq.model import truncated_shares
from photophone.tokenizers.unitok.model import UniTokCLIP, code_shares, update_usage

TOKENS = {"titok-l32": 32, "titok-s128": 128, "titok-sl256-vq8k": 256, "titok-bl64-vae-c16": 64, "softvq-l-64": 64,
          "softvq-bl-64-512": 64, "maetok-b-512": 128, "unitok": 256}


def tiny(name, **overrides):
    torch.manual_seed(0)
    return shake(create_model(name, **{**find(name).tiny, **overrides}), scale=0.02)


def images(model, rows=2):
    return torch.rand(rows, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("name", TOKENS)
def test_published_sizes(name):
    with torch.device("meta"):
        model = create_model(name)
    assert model.num_tokens == TOKENS[name]


def test_stage_one_of_titok_predicts_codes_and_no_images():
    model = tiny("titok-l32", proxy_decoder=None)
    pictures = images(model)
    codes = torch.randint(48, (2, 256), generator=torch.Generator().manual_seed(1))
    logits, loss, _ = model.proxy_loss(pictures, codes)
    assert logits.shape == (2, 256, 48)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten()) + model.bottleneck(
        model.latents(pictures)).loss
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="stage-1 model predicts codes"):
        model.decode(model.encode(pictures))


def test_stage_one_of_a_gaussian_titok_follows_the_noise():
    model = tiny("titok-l32", proxy_decoder=None, num_codes=None, l2_norm=False)
    codes, draws = torch.zeros(2, 256).long(), torch.randn(2, 8, 6)
    mean, log_variance = model.latents(images(model)).chunk(2, dim=-1)
    logits, _, _ = model.proxy_loss(images(model), codes, ReplayNoise(normal=[draws]))
    torch.testing.assert_close(logits, model.proxy_logits(mean + (0.5 * log_variance).exp() * draws))


def test_scrambled_latents_are_a_reshape():
    model = tiny("titok-l32")
    pictures = images(model)
    hidden = model.encoder((pictures + 1) / 2)
    rows = hidden.reshape(2, 64, 8).transpose(1, 2)
    torch.testing.assert_close(model.latents(pictures), model.to_latent(rows))
    straight = tiny("titok-l32", scrambles_latents=False)
    assert not torch.allclose(straight.latents(pictures), model.latents(pictures))


def test_settings_that_do_not_fit_are_refused():
    for name, options, words in (
            ("titok-l32", {"proxy_codes": None}, "proxy_decoder needs proxy_codes"),
            ("titok-l32", {"decoder_patch": 4}, "2 levels makes 2 pixels of a cell, decoder_patch is 4"),
            ("titok-l32", {"encoder_patch": 5}, "positive multiple of encoder_patch"),
            ("softvq-l-64", {"kind": "fsq"}, "kind must be"),
            ("maetok-b-128", {"drop_patches": [0.6, 0.4]}, "two rising shares"),
            ("unitok", {"image_size": 40}, "multiple of the stride"),
            ("unitok", {"token_width": 24}, "multiple of token_width")):
        with pytest.raises(ValueError, match=words):
            tiny(name, **options)


def test_gaussian_tokens_are_means_or_draws():
    model = tiny("titok-bl64-vae-c16")
    pictures = images(model)
    mean, logvar = model.latents(pictures).chunk(2, dim=-1)
    torch.testing.assert_close(model.encode(pictures).values, mean)
    draws = SeededNoise.from_seeds([3, 4]).normal(*mean.shape)
    torch.testing.assert_close(model.encode(pictures, SeededNoise.from_seeds([3, 4])).values,
                               mean + torch.exp(0.5 * logvar) * draws)


def test_hidden_patches_stay_hidden():
    model = tiny("maetok-b-128")
    pictures = images(model)
    dropped = torch.zeros(2, 16, dtype=torch.bool)
    dropped[:, :4] = True  # the top row of patches
    other = pictures.clone()
    other[:, :, :8] = 0.3
    torch.testing.assert_close(model.latents(pictures, dropped), model.latents(other, dropped))
    assert not torch.allclose(model.latents(pictures), model.latents(other))
    chosen = model.choose_dropped(64, SeededNoise.from_seeds(range(64))).float().mean(dim=1)
    assert 0.4 <= float(chosen.min()) < float(chosen.max()) <= 0.65


def test_truncated_shares_have_the_quantiles_of_the_cut_normal():
    normal = 0.6 + 0.25 * torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    kept = normal[(normal >= 0.4) & (normal <= 0.6)]
    points = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.999])
    torch.testing.assert_close(truncated_shares(points, 0.4, 0.6), kept.quantile(points), rtol=0, atol=3e-3)


def test_unitok_vectors_and_use_of_codes():
    settings = {**find("unitok").tiny, "text_width": 32, "text_heads": 2, "text_layers": 1, "text_vocab_size": 20,
                "text_length": 6, "embed_dim": 12}
    torch.manual_seed(0)
    model = UniTokCLIP(**settings).eval()
    ids = torch.tensor([[1, 5, 19, 0], [2, 19, 3, 3]])
    vectors = model.encode_text(ids, normalize=True)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    later = ids.clone()
    later[:, 3] = 4  # behind the end of both captions
    torch.testing.assert_close(model.encode_text(later, normalize=True), vectors)
    assert model.encode_image(images(model)).shape == (2, 12)
    with pytest.raises(ValueError, match="at most 6 ids, got 7"):
        model.encode_text(torch.zeros(1, 7, dtype=torch.long))
    shares = code_shares(torch.tensor([[[0, 1]], [[1, 1]]]), 3)
    torch.testing.assert_close(shares, torch.tensor([[0.25, 0.75, 0.0]]))
    assert torch.equal(update_usage(torch.ones(1, 3), shares, 0), shares)
    torch.testing.assert_close(update_usage(torch.ones(1, 3), shares, 99), 0.9 + 0.1 * shares)
    torch.testing.assert_close(update_usage(torch.ones(1, 3), shares, 100), 0.99 + 0.01 * shares)


def test_rotation_depends_on_differences_and_leaves_other_tokens():
    torch.manual_seed(0)
    rope = MixedRope2d(depth=2, num_heads=2, head_dim=8, grid=3, before=1)
    rotate = rope.rotation(1)
    same = torch.randn(1, 2, 1, 8).expand(1, 2, 12, 8)  # a class token, 9 of the grid, 2 latents
    turned = rotate(same)
    assert torch.equal(turned[:, :, :1], same[:, :, :1]) and torch.equal(turned[:, :, 10:], same[:, :, 10:])
    scores = turned[0] @ turned[0].transpose(1, 2)
    torch.testing.assert_close(scores[:, 1, 5], scores[:, 5, 9], rtol=1e-4, atol=1e-5)  # one row, one column further
    torch.testing.assert_close(turned.norm(dim=-1), same.norm(dim=-1))
    pair = rotate_pairs(torch.tensor([[[[1.0, 0.0]]]]), torch.full((1, 1, 1), torch.pi / 2))
    torch.testing.assert_close(pair.flatten(), torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        MixedRope2d(1, 1, 6, 2, 0)


def test_unpatchify_undoes_patches_with_the_channel_fastest():
    pictures = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    patches = pictures.view(2, 3, 2, 2, 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(2, 4, 12)
    assert torch.equal(unpatchify(patches, 2), pictures)


def test_encoder_sees_every_patch_and_keeps_rows_apart():
    torch.manual_seed(0)
    encoder = shake(LatentEncoder(32, 1, 2, patch=4, num_latents=3, grid=2))
    pictures = torch.randn(2, 3, 8, 8)
    latents = encoder(pictures)
    assert latents.shape == (2, 3, 32)
    torch.testing.assert_close(encoder(pictures[1:])[0], latents[1])


@pytest.mark.parametrize("feed_forward", FEED_FORWARDS)
@pytest.mark.parametrize("post_norm", [False, True])
def test_blocks_of_all_kinds_pass_gradients(feed_forward, post_norm):
    torch.manual_seed(0)
    block = TransformerBlock(16, 2, feed_forward=feed_forward, post_norm=post_norm, layer_scale=0.1, qkv_bias=False)
    block(torch.randn(2, 3, 16)).square().sum().backward()
    assert not [key for key, weight in block.named_parameters() if weight.grad is None]
    with pytest.raises(ValueError, match="feed_forward must be one of"):
        TransformerBlock(16, 2, feed_forward="relu")


def test_joint_projections_of_all_layouts_are_split_alike():
    weight, bias = torch.randn(12, 4), torch.randn(12)
    timm = {"blocks.0.attn.qkv.weight": weight, "blocks.0.attn.qkv.bias": bias}
    clip = {"blocks.0.attn.in_proj_weight": weight, "blocks.0.attn.in_proj_bias": bias}
    bert = {f"blocks.0.attention.self.{part}.{kind}": value.chunk(3)[index]
            for index, part in enumerate(("query", "key", "value")) for kind, value in (("weight", weight),
                                                                                        ("bias", bias))}
    converted = [convert_vit_keys(state) for state in (timm, clip, bert)]
    assert set(converted[0]) == {f"blocks.0.attention.to_{part}.{kind}" for part in ("q", "kv")
                                 for kind in ("weight", "bias")}
    for other in converted[1:]:
        assert set(other) == set(converted[0]) and all(torch.equal(other[key], converted[0][key]) for key in other)
    beit = convert_vit_keys({"attn.q_bias": bias[:4], "attn.v_bias": bias[8:], "attn.zero_k_bias": bias[4:8]})
    assert torch.equal(beit["attention.to_kv.bias"], torch.cat([torch.zeros(4), bias[8:]]))
    assert torch.equal(beit["attention.to_q.bias"], bias[:4]) and len(beit) == 2
