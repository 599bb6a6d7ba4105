"""The language models of CosyVoice and Spark-TTS: conditions, layouts, text that comes piece by piece, limits."""

import pytest
import torch
from tiny import build

from photophone import SeededNoise, Tokens, create_model
from photophone.generators.cosyvoice.lm_layout import Layout
from photophone.generators.cosyvoice.spoken_text import SpeechLMSampler, SpokenText
from photophone.generators.cosyvoice.text_stream import TextStream, speak_pieces
from photophone.generators.sparktts.model import PromptIds, SparkTTS
from photophone.loading.registry import find

LMS = ("cosyvoice-300m", "cosyvoice2-0.5b", "cosyvoice3-0.5b")
TINY_LAYOUT = Layout(torch.zeros(1, 2), torch.ones(1, 2), 90, 92, (2, 3))


def embed(tokens):
    return tokens[:, None].float().expand(-1, 2)


def test_text_and_speech_take_turns():
    text, tokens = embed(torch.arange(10, 15)), torch.arange(50, 59)
    x, targets = TINY_LAYOUT.mixed(text, tokens, embed(tokens))
    assert x[:, 0].tolist() == [0, 10, 11, 50, 51, 52, 12, 13, 53, 54, 55, 14, 1, 56, 57, 58]
    assert targets.tolist() == [-1, -1, 50, 51, 52, 92, -1, 53, 54, 55, 92, -1, 56, 57, 58, 90]
    x, targets = TINY_LAYOUT.mixed(text[:3], tokens[:5], embed(tokens[:5]), instruction=1)
    assert x[:, 0].tolist() == [0, 10, 11, 12, 50, 51, 52, 1, 53, 54]
    assert targets.tolist() == [-1, -1, -1, 50, 51, 52, 92, 53, 54, 90]
    x, targets = TINY_LAYOUT.whole(text, tokens[:2], embed(tokens[:2]))
    assert targets.tolist() == [-1] * 6 + [50, 51, 90] and x[:, 0].tolist() == [0, 10, 11, 12, 13, 14, 1, 50, 51]
    assert TINY_LAYOUT.can_mix(4, 7) and not TINY_LAYOUT.can_mix(4, 6) and not TINY_LAYOUT.can_mix(0, 6)


@pytest.mark.parametrize("name", LMS)
def test_hidden_speech_is_foretold_but_not_seen(name):
    model, text = build(name), SpokenText(torch.tensor([[1, 2, 3]] * 2))
    mixed, hidden = [False, model.mixes], torch.tensor([[i in (1, 4, 8) for i in range(9)]] * 2)
    values = torch.arange(9).expand(2, -1)
    x, targets, mask = model.sequences(Tokens(values), text, mixed)
    covered, same, kept = model.sequences(Tokens(values), text, mixed, hidden)
    assert torch.equal(same, targets) and torch.equal(kept, mask)
    changed = (covered != x).any(dim=2)
    assert changed.sum(dim=1).tolist() == [3, 3] and not covered[changed].any()
    others, told, _ = model.sequences(Tokens(values + 20 * hidden), text, mixed, hidden)
    assert torch.equal(others, covered)  # the model cannot know
    assert (told - targets)[told != targets].tolist() == [20] * 6


@pytest.mark.parametrize("name", LMS[1:])
def test_speech_is_hidden_in_training_alone(name):
    plain, hiding = (create_model(name, **{**find(name).tiny, "hidden_speech": share}).eval() for share in (0.0, 0.5))
    hiding.load_state_dict(plain.state_dict())
    tokens, text = Tokens(torch.arange(9).expand(2, -1)), SpokenText(torch.tensor([[1, 2, 3]] * 2))

    def loss(model):
        return model.loss(tokens, text, noise=SeededNoise.from_seeds([1, 2])).loss

    torch.testing.assert_close(loss(hiding), loss(plain))
    plain.train()
    hiding.train()
    noise = SeededNoise.from_seeds([1, 2])
    mixed, hidden = plain.mixed_rows(2, noise), noise.uniform(2, 9) < 0.5
    x, targets, mask = plain.sequences(tokens, text, mixed, hidden)
    logs = plain.token_head.logits(plain.states(x, mask))[targets >= 0].log_softmax(dim=-1)
    expected = -logs.gather(1, targets[targets >= 0][:, None]).mean()
    torch.testing.assert_close(loss(hiding), expected)
    assert 0 < int(hidden.sum()) < 18 and float((loss(plain) - expected).detach().abs()) > 1e-4


def test_answers_of_spark_are_hidden_in_training_alone():
    name = "spark-tts-0.5b"
    plain, hiding = (create_model(name, **{**find(name).tiny, "hidden_speech": share}).eval() for share in (0.0, 0.5))
    hiding.load_state_dict(plain.state_dict())
    prompts, answers = PromptIds.of_rows([[1, 2, 3], [4, 5]]), Tokens(torch.arange(9).expand(2, -1))

    def loss(model):
        return model.loss(answers, prompts, noise=SeededNoise.from_seeds([1, 2])).loss

    torch.testing.assert_close(loss(hiding), loss(plain))
    hiding.train()
    hidden = SeededNoise.from_seeds([1, 2]).uniform(2, 9) < 0.5
    seen = torch.cat([torch.ones(2, 3, dtype=torch.bool), ~hidden], dim=1)
    ids, mask = torch.cat([prompts.ids, answers.values], dim=1), torch.cat([prompts.mask, answers.mask], dim=1)
    others = torch.where(seen, ids, ids + 1)
    states = plain.states(ids, mask, seen=seen)
    torch.testing.assert_close(plain.states(others, mask, seen=seen), states)  # the model cannot know
    logs = plain.logits(states[:, 2:-1]).log_softmax(dim=-1)
    expected = -logs.gather(2, answers.values[..., None]).mean()
    torch.testing.assert_close(loss(hiding), expected)
    assert 0 < int(hidden.sum()) < 18 and float((loss(plain) - expected).detach().abs()) > 1e-4


@pytest.mark.parametrize("name", LMS)
def test_conditions_that_do_not_fit_are_refused(name):
    model, ids = build(name), torch.tensor([[1, 2, 3]])
    for condition, words in (
            (SpokenText(ids.float()), "text ids must be Long"), (SpokenText(ids + 62), r"must lie in 0\.\.63"),
            (SpokenText(ids, torch.tensor([0])), "needs text to say"),
            (SpokenText(ids, said=torch.tensor([4])), "needs text to say"),
            (SpokenText(ids, prompt_tokens=ids + 40), r"speech tokens must lie in 0\.\.39"),
            (SpokenText(ids, prompt_lengths=torch.tensor([1])), "need prompt_tokens"),
            (SpokenText(ids, instruction=torch.tensor([4])), "instructions of")):
        with pytest.raises(ValueError, match=words):
            model.generate(condition, noise=SeededNoise.from_seeds([1]))
    with pytest.raises(ValueError, match="do not fit the model's 200"):
        model.generate(SpokenText(ids), noise=SeededNoise.from_seeds([1]), sampler=SpeechLMSampler(max_ratio=100.0))
    with pytest.raises(ValueError, match="speech tokens Long"):
        model.loss(Tokens(torch.tensor([[99]])), SpokenText(ids))


def test_a_speaker_is_one_position_or_none():
    model, ids = build("cosyvoice-300m"), torch.tensor([[1, 2, 3]] * 2)
    speaker = torch.stack([torch.ones(12), torch.zeros(12)])
    lengths = [len(row) for row in model.prefixes(SpokenText(ids, speaker=speaker))]
    assert lengths == [6, 5] and [len(row) for row in model.prefixes(SpokenText(ids))] == [5, 5]
    scaled = model.prefixes(SpokenText(ids[:1], speaker=3 * speaker[:1]))[0]
    torch.testing.assert_close(scaled, model.prefixes(SpokenText(ids[:1], speaker=speaker[:1]))[0])
    with pytest.raises(ValueError, match="speaker vectors must be"):
        model.generate(SpokenText(ids, speaker=speaker[:, :5]), noise=SeededNoise.from_seeds([1, 2]))


def test_text_that_comes_piece_by_piece_ends_and_repeats():
    model = build("cosyvoice2-0.5b")
    ids, prompt = torch.arange(1, 12), torch.tensor([3, 4, 5])

    def spoken(pieces, seed, **options):
        stream = TextStream(model, torch.tensor([7, 8]), prompt, noise=SeededNoise.from_seeds([seed]), **options)
        try:
            for token in speak_pieces(stream, pieces):
                made.append(int(token))
        except ValueError as error:
            assert "was due" in str(error)
        return stream

    runs = []
    for _ in range(2):
        made = []
        spoken(ids.split(1), 3, sampler=SpeechLMSampler(max_ratio=4.0))
        runs.append(made)
    assert runs[0] == runs[1] and runs[0] and max(runs[0]) < model.config.num_tokens
    made = []
    stream = spoken(ids.split(11), 3, sampler=SpeechLMSampler(max_ratio=2.0))
    assert stream.made.shape[1] <= 2 * 11 + 1 and stream.heard == 11
    with pytest.raises(ValueError, match="separator 9"):
        TextStream(model, torch.tensor([7]), prompt, noise=SeededNoise.from_seeds([1]), separator=9)


def test_prompts_that_do_not_fit_are_refused():
    model = build("spark-tts-0.5b")
    good = PromptIds.of_rows([[1, 2], [3]])
    assert good.mask.tolist() == [[True, True], [False, True]] and good.ids.tolist() == [[1, 2], [0, 3]]
    for condition, words in (
            (PromptIds(good.ids.float(), good.mask), "must be Long"), (PromptIds(good.ids + 63, good.mask), "lie in 0"),
            (PromptIds(good.ids, good.mask.flip(1)), "on the left alone"),
            (PromptIds(good.ids, good.mask, torch.tensor([1])), "max_tokens must be")):
        with pytest.raises(ValueError, match=words):
            model.generate(condition, noise=SeededNoise.from_seeds([1, 2]))
    with pytest.raises(ValueError, match="do not fit the model's 100"):
        model.generate(good, noise=SeededNoise.from_seeds([1, 2]))
    limited = PromptIds.of_rows([[1, 2], [3]], [2, 5])
    tokens = model.generate(limited, noise=SeededNoise.from_seeds([1, 2]),
                            sampler=model.Sampler(max_tokens=9, min_tokens=9))
    assert tokens.mask.sum(1).tolist() == [2, 5]


def test_tied_and_untied_outputs_are_told_apart():
    torch.manual_seed(0)
    settings = {"vocab_size": 20, "width": 16, "depth": 1, "num_heads": 2, "num_kv_heads": 1, "hidden": 16, "end": 19}
    model = create_model("spark-tts-0.5b", **settings)
    state = {"model.embed_tokens.weight": model.embedding.weight.detach(), "model.norm.weight": torch.ones(16)}
    block = {"input_layernorm.weight": (16,), "post_attention_layernorm.weight": (16,),
             "self_attn.q_proj.weight": (16, 16), "self_attn.q_proj.bias": (16,), "self_attn.k_proj.weight": (8, 16),
             "self_attn.k_proj.bias": (8,), "self_attn.v_proj.weight": (8, 16), "self_attn.v_proj.bias": (8,),
             "self_attn.o_proj.weight": (16, 16), "mlp.gate_proj.weight": (16, 16), "mlp.up_proj.weight": (16, 16),
             "mlp.down_proj.weight": (16, 16)}
    state |= {f"model.layers.0.{key}": torch.randn(shape) for key, shape in block.items()}
    head = {"lm_head.weight": torch.randn(20, 16)}
    assert SparkTTS.from_original(dict(state), **settings).output is None
    assert SparkTTS.from_original({**state, **head}, **settings, tied=False).output is not None
    with pytest.raises(ValueError, match="load it with tied=False"):
        SparkTTS.from_original({**state, **head}, **settings)
