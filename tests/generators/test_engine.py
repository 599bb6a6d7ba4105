"""Decode steps of fixed shape, continuous batching and speculative decoding, against the model's own generate."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from photophone import CaptionFeatures, ClassLabels
from photophone.core.noise import SeededNoise
from photophone.decoding.engine import DecodingEngine, DecodingSettings
from photophone.decoding.speculative import NGramProposer, generate_speculatively, judge
from photophone.decoding.step import DecodeStep
from photophone.generators.llamagen.model import LlamaGenGPT
from photophone.kernels.few_rows import WEIGHTS
from photophone.layers.decode_linear import prepare_for_decoding

TINY = {"grid_size": 4, "num_codes": 24, "num_classes": 5, "width": 32, "depth": 2, "num_heads": 2,
        "hidden_multiple": 16}


def make_model(seed=0, **config):
    torch.manual_seed(seed)
    model = LlamaGenGPT(**{**TINY, **config}).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def classes(*labels):
    return ClassLabels(torch.tensor(labels))


def seeded(*seeds):
    return SeededNoise.from_seeds(seeds)


SETTINGS = [DecodingSettings(guidance_scale=3.0, temperature=0.8, top_k=10),
            DecodingSettings(temperature=1.0, top_p=0.9, max_tokens=5),
            DecodingSettings(guidance_scale=2.0, temperature=0.0, max_tokens=9),
            DecodingSettings(guidance_scale=4.0, guidance_schedule="linear", max_tokens=16),
            DecodingSettings(guidance_scale=2.5, guidance_interval=3, max_tokens=12),
            DecodingSettings(temperature=0.0, max_tokens=1), DecodingSettings(guidance_scale=1.5, max_tokens=7)]


def alone(model, number, settings, caption=None):
    """What generate makes of a request."""
    options = {key: value for key, value in vars(settings).items() if key != "max_tokens"}
    condition = classes(number % 5) if caption is None else caption
    made = model.generate(condition, noise=seeded(number), sampler=model.Sampler(**options))
    return made.values[:, :settings.max_tokens]


@pytest.mark.parametrize("weights", [None, *WEIGHTS])
@pytest.mark.parametrize("max_requests", [1, 3, 7])
def test_a_request_gets_what_it_would_get_alone(weights, max_requests):
    model = make_model(num_kv_heads=1 if weights == "int8" else None)
    if weights is not None:
        prepare_for_decoding(model, weights, smallest=0)
    engine = DecodingEngine(model, max_requests=max_requests)
    tickets, done = {}, {}
    for number, settings in enumerate(SETTINGS):
        tickets[engine.submit(classes(number % 5), noise=seeded(number), settings=settings)] = number
        if number % 2:  # some join while others are under way
            done |= engine.step()
    done |= engine.run()
    assert set(done) == set(tickets) and engine.running == engine.waiting == 0
    for ticket, number in tickets.items():
        assert torch.equal(done[ticket].values, alone(model, number, SETTINGS[number])), number


def test_captions_with_padding_share_a_batch():
    model = make_model(caption_dim=6, caption_length=5)
    engine = DecodingEngine(model, max_requests=2)
    generator, captions, tickets = torch.Generator().manual_seed(0), [], []
    for number in range(3):
        mask = torch.arange(5)[None] >= number
        captions.append(CaptionFeatures(torch.randn(1, 5, 6, generator=generator) * mask[..., None], mask))
        tickets.append(engine.submit(captions[-1], noise=seeded(number), settings=SETTINGS[0]))
    done = engine.run()
    for number, ticket in enumerate(tickets):
        assert torch.equal(done[ticket].values, alone(model, number, SETTINGS[0], captions[number]))


def test_a_cancelled_request_leaves_the_others_alone():
    model = make_model()
    engine = DecodingEngine(model, max_requests=2)
    first, second, third = (engine.submit(classes(n), noise=seeded(n), settings=SETTINGS[0]) for n in range(3))
    for _ in range(4):
        engine.step()
    engine.cancel(first)
    fourth = engine.submit(classes(3), noise=seeded(3), settings=SETTINGS[0])
    engine.cancel(fourth)
    done = engine.run()
    assert set(done) == {second, third}
    assert torch.equal(done[second].values, alone(model, 1, SETTINGS[0]))
    assert torch.equal(done[third].values, alone(model, 2, SETTINGS[0]))
    with pytest.raises(KeyError, match=f"no request {first} waits or decodes"):
        engine.cancel(first)


def test_limits_name_value_limit_and_way_out():
    model = make_model()
    engine = DecodingEngine(model, max_requests=1, max_queue=1)
    label = classes(0)
    for _ in range(2):
        engine.submit(label, noise=seeded(0))
    with pytest.raises(ValueError, match="2 requests wait already, the limit is 1; call step"):
        engine.submit(label, noise=seeded(0))
    engine.step()
    with pytest.raises(ValueError, match="1 requests wait already, the limit is 1; call step"):
        engine.submit(label, noise=seeded(0))
    engine = DecodingEngine(model)
    for condition, settings, message in (
            (classes(0, 1), {}, "a condition of 2 rows; submit each row"),
            (classes(5), {}, r"labels must lie in 0..4, got \[5\]"),
            (label, {"max_tokens": 17}, r"max_tokens must lie in 1..16, the codes of an image, got 17"),
            (label, {"max_tokens": 0}, "got 0"), (label, {"temperature": -1.0}, "temperature"),
            (label, {"top_p": 1.5}, "top_p must lie"), (label, {"guidance_schedule": "odd"}, "'odd'")):
        with pytest.raises(ValueError, match=message):
            engine.submit(condition, noise=seeded(0), settings=DecodingSettings(**settings))
    assert engine.waiting == 0
    with pytest.raises(ValueError, match=r"max_requests must lie in 1..256, got 0"):
        DecodingEngine(model, max_requests=0)
    with pytest.raises(ValueError, match=r"max_queue must lie in 0..100000, got -1"):
        DecodingEngine(model, max_queue=-1)


@torch.no_grad()
def test_steps_equal_the_teacher_forced_pass_in_float64():
    model = make_model().double()
    step, labels = DecodeStep(model, 3), classes(0, 3, 4)
    codes = torch.randint(0, 24, (3, 16), generator=torch.Generator().manual_seed(1))
    truth = model.teacher_logits(codes, labels)
    made = [step.prefill(model.prefix(labels), 0)]
    made += [step(codes[:, index], 1 + index) for index in range(15)]
    torch.testing.assert_close(torch.stack(made, 1), truth.float(), atol=1e-5, rtol=1e-5)


def test_a_step_needs_nothing_from_the_host():
    """Fake tensors have no values: reading one, or a shape that depends on one, raises."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():  # the table of positions is a real one
        model = make_model()
        step = DecodeStep(model, 4)
        step._run_all()
        step.tokens.copy_(step._run_all().argmax(-1))
        logits = step._run_all()
        assert logits.shape == (4, 24)
        with pytest.raises(DataDependentOutputException):
            logits.argmax().item()


@pytest.mark.slow
def test_a_compiled_step_has_one_graph_for_all_steps_and_equals_the_plain_one():
    model = make_model(grid_size=11)
    torch._dynamo.reset()
    counters.clear()
    plain, step = DecodeStep(model, 2), DecodeStep(model, 2, compiled=True)
    prefix = model.prefix(classes(0, 1))
    tokens = plain.prefill(prefix, 0).argmax(-1)
    step.prefill(prefix, 0)
    for index in range(110):
        expected = plain(tokens, 1 + index)
        torch.testing.assert_close(step(tokens, 1 + index), expected, atol=1e-4, rtol=1e-4)
        tokens = expected.argmax(-1)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"] and not counters["recompiles"]
    engine = DecodingEngine(make_model(), max_requests=2, compiled=True)
    ticket = engine.submit(classes(2), noise=seeded(2), settings=SETTINGS[2])
    assert torch.equal(engine.run()[ticket].values, alone(make_model(), 2, SETTINGS[2]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_captured_step_equals_the_plain_one_on_a_gpu():
    model = make_model()
    engine = DecodingEngine(copy.deepcopy(model).to("cuda"), max_requests=2)
    noises = [SeededNoise.from_seeds([number], "cuda") for number in range(3)]
    tickets = [engine.submit(classes(number), noise=noises[number], settings=SETTINGS[2]) for number in range(3)]
    done = engine.run()
    for number, ticket in enumerate(tickets):
        assert torch.equal(done[ticket].values.cpu(), alone(model, number, SETTINGS[2]))


@pytest.mark.parametrize("weights", [None, "float32"])
@pytest.mark.parametrize("draft", [None, "other", "same"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_greedy_speculation_equals_greedy_decoding(weights, draft, guidance):
    model, labels = make_model(), classes(0, 1, 2, 3)
    drafts = {"other": make_model(1, depth=1, width=16), "same": copy.deepcopy(model), None: None}
    if weights is not None:
        prepare_for_decoding(model, weights, smallest=0)
    wanted = model.generate(labels, noise=seeded(*range(4)),
                            sampler=model.Sampler(guidance_scale=guidance, temperature=0.0))
    passes = []
    made = generate_speculatively(model, labels, noise=seeded(*range(4)), draft=drafts[draft], num_proposals=3,
                                  guidance_scale=guidance, temperature=0.0, observe=passes.append)
    assert torch.equal(made.values, wanted.values)
    if draft == "same":  # every proposal is right: 1 + 4 codes a pass
        assert len(passes) == 4 and all((accepted == 3).all() for accepted in passes)


def test_a_row_of_speculation_does_not_depend_on_the_others():
    model, draft = make_model(), make_model(1, depth=1)
    options = {"guidance_scale": 1.5, "temperature": 0.9, "top_k": 12}
    for proposer in (None, draft):
        def make(*rows, draft=proposer):
            noise = seeded(*(5 + row for row in rows))
            return generate_speculatively(model, classes(*rows), noise=noise, draft=draft, **options)

        together = make(0, 1, 2)
        for row in range(3):
            single = make(row)
            assert torch.equal(single.values[0], together.values[row])


def chi_square(counts, law):
    """The statistic of counts (K,) against probabilities (K,), cells with less than 5 expected joined, and its bound:
    mean plus five standard deviations."""
    expected = law * counts.sum()
    rare = expected < 5
    counts, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts.double(), expected))
    keep = expected > 0
    degrees = int(keep.sum()) - 1
    return ((counts - expected)[keep] ** 2 / expected[keep]).sum().item(), degrees + 5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("proposer", ["ngram", "draft"])
def test_speculation_follows_the_law_of_the_model(proposer, guided):
    small = {"grid_size": 2, "num_codes": 4, "width": 16}
    model = make_model(3, **small)
    draft = make_model(4, **small, depth=1) if proposer == "draft" else None
    settings = {"guidance_scale": 2.0 if guided else 1.0, "temperature": 1.3, "top_k": 3}
    everything = torch.cartesian_prod(*[torch.arange(4)] * 4)
    label = ClassLabels(torch.ones(len(everything), dtype=torch.long))
    with torch.no_grad():
        logits = model.teacher_logits(everything, label).double()
        if guided:
            null = model.teacher_logits(everything, model.null_condition(label)).double()
            logits = null + 2.0 * (logits - null)
    logits = logits / 1.3
    logits = logits.masked_fill(logits < logits.topk(3).values[..., -1:], float("-inf"))
    law = logits.softmax(-1).gather(-1, everything[..., None])[..., 0].prod(1)
    assert abs(law.sum().item() - 1) < 1e-6
    drawn = generate_speculatively(model, ClassLabels(torch.ones(6000, dtype=torch.long)), noise=seeded(*range(6000)),
                                   draft=draft, num_proposals=2, longest_ngram=2, **settings).values
    counts = torch.bincount((drawn * torch.tensor([64, 16, 4, 1])).sum(1), minlength=256)
    assert counts[law == 0].sum() == 0
    statistic, bound = chi_square(counts, law)
    assert statistic < bound
    wrong, bound = chi_square(counts, law.roll(1) * (law > 0) + 1e-12)
    assert wrong > bound  # the test can fail


def test_judging_in_closed_form():
    laws = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]]).expand(40_000, -1, -1)
    drafts = torch.tensor([[[0.2, 0.7, 0.1]]]).expand(40_000, -1, -1)
    noise = SeededNoise.from_seeds(range(40_000))
    proposed = torch.multinomial(drafts[:, 0], 1, generator=torch.Generator().manual_seed(0))
    accepted, behind = judge(proposed, laws, drafts, noise)
    first = torch.where(accepted == 1, proposed[:, 0], behind)
    statistic, bound = chi_square(torch.bincount(first, minlength=3), laws[0, 0].double())
    assert statistic < bound
    assert abs(accepted.double().mean().item() - (0.2 + 0.3 + 0.1)) < 0.01  # sum of min(p, q)
    statistic, bound = chi_square(torch.bincount(behind[accepted == 1], minlength=3), laws[0, 1].double())
    assert statistic < bound


def test_ngrams_continue_what_was_there():
    codes = torch.tensor([[1, 2, 3, 4, 1, 2, 0, 0], [7, 7, 5, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0],
                          [1, 2, 3, 5, 2, 3, 0, 0]])
    proposed, law = NGramProposer(3).propose(codes, torch.tensor([6, 3, 1, 6]), 3, None)
    assert law is None and proposed.tolist() == [[3, 4, 1], [5, 5, 5], [9, 9, 9], [5, 2, 3]]
    with pytest.raises(ValueError, match="got 0"):
        NGramProposer(0)


def test_speculation_refuses_what_does_not_fit():
    model, label = make_model(), classes(0)
    with pytest.raises(ValueError, match=r"num_proposals must lie in 1..15, .* got 16"):
        generate_speculatively(model, label, noise=seeded(0), num_proposals=16)
    with pytest.raises(ValueError, match="must agree in num_codes, got 24 and 30"):
        generate_speculatively(model, label, noise=seeded(0), draft=make_model(num_codes=30))
    with pytest.raises(ValueError, match="labels must lie"):
        generate_speculatively(model, classes(5), noise=seeded(0))
