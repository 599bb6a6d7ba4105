"""Attention by chunks: the rule of who sees whom, and streams that equal the whole."""

import pytest
import torch
from torch.nn import functional

from photophone.generators.cosyvoice.chunked import Sight, SightMemory
from photophone.generators.cosyvoice.conformer import (
    ConformerStack,
    Lookahead,
    RelativeAttention,
    distance_waves,
    relative_places,
)
from photophone.generators.cosyvoice.mel_dit import MelDiT
from photophone.generators.cosyvoice.unet1d import UNet1d
from photophone.layers.streaming import StreamMemory

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize(("left", "sink"), [(None, 0), (0, 0), (1, 0), (2, 3)])
def test_the_mask_is_the_rule(left, sink):
    sight, length = Sight(4, left, sink), 19
    places = torch.arange(length)
    mask = sight.mask(places, places)
    for query in range(length):
        for key in range(length):
            before = query // 4 - key // 4
            sees = before >= 0 and (left is None or before <= left or key < sink)
            assert bool(mask[query, key]) == sees, (query, key)


def test_no_chunks_mean_no_mask_and_wrong_sights_are_refused():
    places = torch.arange(5)
    assert Sight().mask(places, places) is None
    for arguments, words in [((0,), "at least 1"), ((None, 1), "left_chunks"), ((4, -1), "left_chunks")]:
        with pytest.raises(ValueError, match=words):
            Sight(*arguments)


def test_a_stream_starts_at_whole_chunks():
    memory = SightMemory(1)
    past = StreamMemory(memory, 1)
    with past.resume():
        memory(5, Sight(4))
    with past.resume(), pytest.raises(ValueError, match="whole chunks"):
        memory(4, Sight(4))


def test_relative_attention_equals_the_sums_by_hand():
    torch.manual_seed(0)
    layer, x = RelativeAttention(8, 2), torch.randn(1, 5, 8)
    ours = layer(x, relative_places(SightMemory(1)(5, Sight())))
    queries, keys, values = (part(x).view(5, 2, 4) for part in (layer.to_q, layer.to_k, layer.to_v))
    heads = []
    for head in range(2):
        logits = torch.zeros(5, 5)
        for i in range(5):
            for j in range(5):
                wave = layer.to_position(distance_waves(torch.tensor([i - j]), 8))[0].view(2, 4)[head]
                logits[i, j] = (queries[i, head] + layer.content_bias[head]) @ keys[j, head]
                logits[i, j] += (queries[i, head] + layer.position_bias[head]) @ wave
        heads.append((logits / 2).softmax(1) @ values[:, head])
    torch.testing.assert_close(ours[0], layer.to_out(torch.cat(heads, dim=1)), **CLOSE)


def estimator(kind):
    torch.manual_seed(0)
    if kind == "unet":
        model = UNet1d(32, 8, [16], 1, 2, 2, 8, causal=True, chunk=4)
    else:
        model = MelDiT(32, 2, 2, 16, mel_dim=8, mu_dim=8, speaker_dim=8, chunk=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize("left", [None, 1])
@pytest.mark.parametrize("kind", ["unet", "dit"])
@torch.no_grad()
def test_estimators_stream(kind, left):
    model, length = estimator(kind), 22
    x, mu, cond = torch.randn(3, 2, 8, length).unbind(0)
    speaker, time, sight = torch.randn(2, 8), torch.tensor([0.2, 0.7]), Sight(4, left, 5)

    def call(start, stop):
        part = slice(start, stop)
        return model(x[..., part], torch.ones(2, 1, stop - start), mu[..., part], time, speaker, cond[..., part], sight)

    whole, past, parts = call(0, length), StreamMemory(model, 2), []
    for start, stop in [(0, 8), (8, 12), (12, 16), (16, 22)]:
        with past.resume():
            parts.append(call(start, stop))
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, **CLOSE)
    torch.testing.assert_close(call(0, length), whole, rtol=0, atol=0)  # no state stays behind
    if left is not None:
        cache = past.states[model.memory][2][0]
        assert cache.stored[0].shape[2] < length - 4  # what nobody sees any more is forgotten


@torch.no_grad()
def test_padded_frames_change_nothing_in_the_causal_estimators():
    for kind in ("unet", "dit"):
        model = estimator(kind)
        x, mu, cond = torch.randn(3, 1, 8, 9).unbind(0)
        speaker, time, mask = torch.randn(1, 8), torch.tensor([0.4]), (torch.arange(9) < 6).float()[None, None]
        padded = model(x, mask, mu, time, speaker, cond, Sight())
        alone = model(x[..., :6], mask[..., :6], mu[..., :6], time, speaker, cond[..., :6], Sight())
        torch.testing.assert_close(padded[..., :6], alone, **CLOSE)


@torch.no_grad()
def test_the_conformer_and_its_look_ahead_stream():
    torch.manual_seed(1)
    stack, ahead, x = ConformerStack(6, 8, 2, 16, 2).eval(), Lookahead(8, 8, 3).eval(), torch.randn(1, 11, 6)
    sight, embedded = Sight(3), stack.embed(x)
    whole = stack.run(ahead(embedded), sight)
    stack_past, ahead_past, parts = StreamMemory(stack, 1), StreamMemory(ahead, 1), []
    for start, stop in [(0, 3), (3, 9), (9, 11)]:
        following = embedded[:, stop:stop + 3]
        context = functional.pad(following, (0, 0, 0, 3 - following.shape[1]))
        with stack_past.resume(), ahead_past.resume():
            parts.append(stack.run(ahead(embedded[:, start:stop], context), sight))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)


def test_one_layer_serves_one_stream_at_a_time():
    model = estimator("dit")
    one, two = StreamMemory(model, 1), StreamMemory(model, 1)
    with one.resume(), pytest.raises(RuntimeError, match="stream already"), two.resume():
        pass
