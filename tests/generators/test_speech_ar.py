"""The speech generator: alignment, causality, streams, batches."""

import math

import pytest
import torch
from speech import RoomyNoise, small_speech

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.speech_ar.model import Phonemes, SpeechFlowAR, SpeechSampler, places

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
LENGTHS = (9, 4, 12, 7)


def phonemes():
    ids = torch.randint(1, 115, (4, 12), generator=torch.Generator().manual_seed(4))
    return ids, torch.arange(12) < torch.tensor(LENGTHS)[:, None]


def generate(model, ids, mask, seeds=(1, 2, 3, 4), durations=None, **options):
    return model.generate(Phonemes(ids, mask, durations), noise=SeededNoise.from_seeds(seeds),
                          sampler=SpeechSampler(**options))


def test_places_of_tokens_in_the_text():
    index, fraction, valid = places(torch.tensor([[2, 0, 3], [1, 1, 0]]))
    assert index[0].tolist() == [0, 0, 2, 2, 2] and valid[0].all()
    torch.testing.assert_close(fraction[0], torch.tensor([0.25, 0.75, 1 / 6, 0.5, 5 / 6]))
    assert index[1, :2].tolist() == [0, 1] and valid[1].tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.7])
def test_durations_are_whole_patches_and_do_not_drift(speed):
    model = small_speech()
    _, mask = phonemes()
    logs = torch.linspace(0.2, 1.9, 48).reshape(4, 12)
    counts = model._round_durations(logs, mask, speed)
    exact = (logs.double().exp() / speed).clamp(1, 80) * mask
    assert bool((counts[mask] >= 1).all()) and not counts[~mask].any()
    assert bool((counts.sum(1) % 4 == 0).all())
    for row, length in enumerate(LENGTHS):  # every boundary but the last, which is made to fit, within half a token
        drift = counts[row].cumsum(0)[:length - 1] - exact[row].cumsum(0)[:length - 1]
        assert float(drift.abs().max()) <= 0.5 + 1e-9


def test_a_row_alone_equals_its_row_in_a_padded_batch():
    model, (ids, mask) = small_speech(), phonemes()
    ids = torch.where(mask, ids, 99)  # rubbish behind the end
    batch = generate(model, ids, mask)
    assert batch.lengths.unique().numel() > 1
    for row, length in enumerate(LENGTHS):
        alone = generate(model, ids[row:row + 1, :length], mask[row:row + 1, :length], [row + 1])
        assert alone.lengths.item() == alone.num_tokens == batch.lengths[row]
        torch.testing.assert_close(batch.values[row, :alone.num_tokens], alone.values[0], **CLOSE)


def test_durations_are_those_of_the_text_and_seeds_matter():
    model, (ids, mask) = small_speech(), phonemes()
    whole = generate(model, ids, mask)
    told = model.durations(ids, mask)
    assert torch.equal(whole.lengths, told.sum(1))
    assert torch.equal(generate(model, ids, mask, durations=told).values, whole.values)
    other = generate(model, ids, mask, [5, 2, 3, 4])
    assert not torch.allclose(other.values[0], whole.values[0]) and torch.equal(other.values[1], whole.values[1])


def test_faster_speech_is_shorter():
    model, (ids, mask) = small_speech(), phonemes()
    model = SpeechFlowAR.from_config(model.config).eval()
    model.duration[-1].bias.data.fill_(math.log(12))
    slow, fast = (model.durations(ids, mask, speed).sum(1) for speed in (1.0, 2.0))
    assert bool((fast < 0.6 * slow + 4).all())
    with pytest.raises(ValueError, match="speed must be 0.5 to 2, got 0"):
        SpeechSampler(speed=0)


@torch.no_grad()
def test_the_backbone_sees_its_window_and_nothing_later():
    model, width = small_speech(), 64
    x = torch.randn(1, 20, width, generator=torch.Generator().manual_seed(0))
    later, early = x.clone(), x.clone()
    later[:, 12:], early[:, 0] = 5.0, 5.0
    whole = model._backbone(x)
    torch.testing.assert_close(model._backbone(later)[:, :12], whole[:, :12], **CLOSE)
    reach = model.config.depth * (model.config.window - 1)  # patches that patch 0 can reach through all layers
    changed = (model._backbone(early) - whole).abs().amax(dim=(0, 2)) > 1e-6
    assert changed[0] and changed[:reach + 1].any() and not changed[reach + 1:].any()


@torch.no_grad()
def test_cached_steps_equal_one_pass():
    from photophone.decoding.loop import KVCache
    model = small_speech()
    x = torch.randn(2, 15, 64, generator=torch.Generator().manual_seed(0))
    cache = KVCache(2, 2, 2, 15, 32)
    steps = torch.cat([model._backbone(part, cache) for part in x.split([1, 4, 1, 9], dim=1)], dim=1)
    torch.testing.assert_close(steps, model._backbone(x), **CLOSE)


def test_without_guidance_the_blank_is_not_used():
    model, (ids, mask) = small_speech(), phonemes()
    guided, plain = (generate(model, ids, mask, guidance_scale=scale).values for scale in (3.0, 1.0))
    assert not torch.allclose(guided, plain, **CLOSE)
    with torch.no_grad():
        model.blank += 1
        again = generate(model, ids, mask, guidance_scale=1.0).values
        model.blank -= 1
    assert torch.equal(again, plain)


def test_the_loss_of_a_row_does_not_depend_on_longer_ones():
    """Padding costs nothing: the loss of a batch is the mean of its rows, each with its own draws."""
    model, (ids, mask) = small_speech(), phonemes()
    durations = model.durations(ids, mask)
    lengths = durations.sum(1)
    values = torch.randn(4, int(lengths.max()), 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        both = model.loss(Tokens(values, lengths), Phonemes(ids, mask, durations),
                          noise=RoomyNoise([1, 2, 3, 4])).metrics["flow_loss"]
        rows = [model.loss(Tokens(values[row:row + 1, :int(lengths[row])]),
                           Phonemes(ids[row:row + 1], mask[row:row + 1], durations[row:row + 1]),
                           noise=RoomyNoise([row + 1])).metrics["flow_loss"] for row in range(4)]
    torch.testing.assert_close(both, (torch.stack(rows) * lengths).sum() / lengths.sum(), **CLOSE)


@pytest.mark.parametrize(("change", "words"), [
    ({"ids": torch.full((4, 12), 115)}, "must lie in 0..114"), ({"ids": torch.zeros(4, 12)}, "must be Long"),
    ({"mask": torch.zeros(4, 12, dtype=torch.bool)}, "True up to its own end"),
    ({"durations": torch.ones(4, 12, dtype=torch.long)}, "0 behind the mask"),
    ({"durations": torch.ones(4, 11, dtype=torch.long)}, "durations must be Long")])
def test_wrong_phonemes_are_refused(change, words):
    ids, mask = phonemes()
    with pytest.raises(ValueError, match=words):
        small_speech().check_condition(Phonemes(**{"ids": ids, "mask": mask, **change}))


def test_training_needs_durations():
    model, (ids, mask) = small_speech(), phonemes()
    with pytest.raises(ValueError, match="needs the durations"):
        model.loss(Tokens(torch.zeros(4, 8, 8)), Phonemes(ids, mask))
