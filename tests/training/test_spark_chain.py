"""A Spark-TTS that is made of sentences: codes, examples, guides, and the folder in the authors' layout."""

import json
import math

import numpy as np
import pytest
import torch
from tiny import arguments
from transformers import Qwen2ForCausalLM

from photophone import SeededNoise, VoiceAttributes
from photophone.codecs.bicodec.model import BiCodec, normalize_volume
from photophone.data.speech import SpeechDataset
from photophone.data.speech_examples import SpeechExamples
from photophone.generators.sparktts.model import PromptIds, SparkSampler, SparkTTS
from photophone.layers.left_padding import attention_mask
from photophone.layers.rotary import sequence_rotary
from photophone.loading.registry import find
from photophone.text.phonemes import PAUSE, SYMBOLS
from photophone.text.voxcpm import load_tokenizer
from photophone.training.losses.attention_guide import AttentionGuide
from photophone.training.losses.audio import SpectralLoss
from photophone.training.spark_chain import (
    load_release,
    make_vocabulary,
    write_release,
    write_spark_examples,
)
from photophone.training.spark_examples import levels, mean_pitch, spark_clips, word_spans
from photophone.training.tasks.bicodec_units import BiCodecUnitsTask, sound_of
from photophone.training.tasks.codec import CodecTask, CodecWeights
from photophone.training.tasks.guided_lm import GuidedLMTask, guides_of

WORDS = [("a hen.", "ɐ hˈɛn."), ("ten men", "tˈɛn mˈɛn"), ("no hat", "nˈO hˈæt"), ("he met ten", "hi mˈɛt tˈɛn")]


def tones(text, phonemes):
    """Each sound a tone of its own, 60 ms."""
    rate, symbols = 16000, f"_{phonemes}_"
    audio = torch.cat([0.3 * torch.sin(2 * math.pi * (200 + 60 * (SYMBOLS.index(symbol) % 40))
                                       * torch.arange(960) / rate) for symbol in symbols])
    return audio, {"text": text, "phonemes": symbols, "seconds_per_phoneme": [0.06] * len(symbols),
                   "pitch": [0, 200 + 10 * len(text), 220]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from safetensors.torch import save_file
    folder = tmp_path_factory.mktemp("tones")
    clips = [tones(*words) for words in WORDS]
    audio = torch.cat([clip for clip, _ in clips])
    offsets = torch.tensor([0, *(len(clip) for clip, _ in clips)]).cumsum(0)
    save_file({"audio": (audio * 32767).short(), "offsets": offsets, "sample_rate": torch.tensor(16000)},
              folder / "speech.safetensors")
    (folder / "speech.jsonl").write_text("\n".join(json.dumps(fields) for _, fields in clips) + "\n")
    return SpeechDataset(folder / "speech.safetensors")


def tiny_codec(seed=0):
    torch.manual_seed(seed)
    return BiCodec(**arguments(find("bicodec-spark-tts-0.5b")))


def test_time_of_marks_belongs_to_the_sound_behind():
    assert sound_of("_tˈɛn mˌæn._") == "_tɛɛnmmææn__"


def test_labels_are_the_sounds_at_the_middles_of_frames(data):
    task = BiCodecUnitsTask(tiny_codec(), data, crop_seconds=0.1)
    sounds = sound_of(data.fields[1]["phonemes"])
    hop, field = task.codec.hop_length, task.codec.frame_samples
    labels = task.labels(data, 1, 500, 150)
    for frame in (0, 40, 149):
        place = int((500 + field / 2 + hop * frame) / 960)
        assert SYMBOLS[labels[frame]] == sounds[place]
    assert task.labels(data, 1, -960, 4).tolist() == [SYMBOLS.index(PAUSE)] * 4
    assert task.labels(data, 1, 10 ** 6, 2).tolist() == [SYMBOLS.index(PAUSE)] * 2


def test_units_learn_phonemes(data):
    torch.manual_seed(0)
    task = BiCodecUnitsTask(tiny_codec(), data, crop_seconds=0.1, feature_steps=40, quantize_from=10, revive_every=5)
    optimizer = torch.optim.AdamW((w for w in task.model.parameters() if w.requires_grad), lr=5e-3)
    rng, seen = np.random.default_rng(0), []
    before = {name: value.clone() for name, value in task.codec.named_parameters()}
    for step in range(40):
        task.model.train()
        loss, metrics = task.loss(task.model, task.batch(np.arange(4), rng), step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(metrics["phonemes_read"].detach()))
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])
    moved = {name for name, value in task.codec.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("wav2vec2") for name in moved) and not any(name.startswith("decoder.") for name in moved)


def test_codes_without_use_move_to_latents(data):
    task = BiCodecUnitsTask(tiny_codec(), data, crop_seconds=0.1)
    codec, audio = task.codec.eval(), task.batch(np.arange(2), np.random.default_rng(0))["audio"]
    codec.cluster_size.fill_(1.0)
    codec.cluster_size[[3, 8]] = 0.0
    (stage,), (project,) = codec.bottleneck.stages, codec.bottleneck.project_in
    before = stage.codebook.detach().clone()
    with torch.no_grad():
        latents = project(codec.latents(codec.semantic_features(audio))).flatten(0, 1)
    task.revive(audio, all_codes=False)
    changed = (stage.codebook != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 8] and codec.cluster_size[[3, 8]].tolist() == [1.0, 1.0]
    assert all((latents - stage.codebook[code]).abs().amax(1).min() < 1e-5 for code in changed)


def test_a_step_below_fixed_codes_changes_what_they_sound_like_alone(data):
    codec = tiny_codec(1)
    audio = data.clip(0)[None, None]
    tokens, made = codec.eval().encode(audio), codec.decode(codec.encode(audio))
    task = CodecTask(codec, data, weights=CodecWeights(crop_seconds=0.2, gain_db=0.0), freeze_encoder=True)
    task.model.train()
    optimizer = torch.optim.SGD((w for w in task.model.parameters() if w.requires_grad), lr=0.1)
    loss, _ = task.loss(task.model, task.batch(np.arange(3), np.random.default_rng(0)), 0)
    loss.backward()
    optimizer.step()
    codec.eval()
    assert torch.equal(codec.encode(audio).values, tokens.values)
    assert not torch.allclose(codec.decode(tokens), made)


def test_speech_is_compared_at_the_volume_of_the_model(data):
    codec, clip = tiny_codec(), data.clip(0)[None, None, :3200]
    assert torch.equal(codec.as_read(0.1 * clip)[0, 0], normalize_volume(0.1 * clip[0, 0]))
    task = CodecTask(codec.eval(), data, data, CodecWeights(crop_seconds=0.2))
    with torch.no_grad():
        made = codec(0.1 * clip).media
        _, metrics = task.loss(task.model, {"audio": 0.1 * clip}, 0)
    expected = SpectralLoss(16000)(made, codec.as_read(0.1 * clip)[..., :made.shape[-1]])
    assert float(metrics["mel"]) == pytest.approx(float(expected["mel"]), rel=1e-5)
    assert all(math.isfinite(value) for value in task.validate(task.model).values())  # it decodes to less than a clip


def test_a_codec_is_written_as_its_authors_do(tmp_path):
    codec = tiny_codec(2).eval()
    codec.cluster_size.copy_(torch.rand_like(codec.cluster_size))
    codec.save_original(tmp_path)
    again = BiCodec.from_original(tmp_path / "BiCodec" / "model.safetensors",
                                  wav2vec2=tmp_path / "wav2vec2-large-xlsr-53" / "pytorch_model.bin",
                                  **arguments(find("bicodec-spark-tts-0.5b")))
    for key, value in codec.state_dict().items():  # the quantizer's layers are written as lengths and directions
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=1e-6 if "project" in key else 0)
    written = json.loads((tmp_path / "BiCodec" / "config.yaml").read_text())["audio_tokenizer"]
    assert written["quantizer"]["codebook_size"] == 64 and written["decoder"]["rates"] == [4, 2]


def test_a_language_model_is_one_of_transformers(tmp_path):
    torch.manual_seed(0)
    model = SparkTTS(**arguments(find("spark-tts-0.5b"))).eval()
    model.save_original(tmp_path)
    theirs = Qwen2ForCausalLM.from_pretrained(tmp_path / "LLM").eval()
    ids = torch.randint(64, (2, 9))
    with torch.no_grad():
        own = model.logits(model.states(ids, torch.ones_like(ids, dtype=torch.bool)))
        torch.testing.assert_close(own, theirs(ids).logits, atol=1e-5, rtol=1e-4)


def test_levels_are_fifths_and_pitch_is_in_mel():
    assert levels(range(10)) == [level for level in ("very_low", "low", "moderate", "high", "very_high") for _ in "ab"]
    assert mean_pitch([0, 700.0, 700.0]) == round(2595 * math.log10(2)) and mean_pitch([0, 0]) == 0


def test_guides_point_to_the_word_that_is_spoken(data, tmp_path):
    fields = data.fields[3]
    make_vocabulary(tmp_path, data, tiny_codec(3), 260)
    tokenizer = load_tokenizer(tmp_path)
    (clip,) = spark_clips([fields], [[1, 2, 5, 6, 7]], 2, "female")
    for prompt, _ in clip.examples():
        read = tokenizer(prompt, return_offsets_mapping=True)
        times = np.array([0.03, 0.06 * 3.5, 0.06 * 5.5, 0.06 * 11, 2.0])
        spans = word_spans(fields, read["offset_mapping"], prompt.index(clip.text), times)
        said = [tokenizer.decode(read["input_ids"][first:last]).strip() for first, last in spans]
        assert said == ["he", "met", "met", "ten", "ten"]
    assert word_spans({**fields, "text": "he met"}, [], 0, [0.0]) is None


def test_the_guided_head_is_judged_by_its_own_attention():
    torch.manual_seed(0)
    model = SparkTTS(**{**arguments(find("spark-tts-0.5b")), "depth": 1})
    attention = model.backbone.blocks[0].attention
    guide, x = AttentionGuide(attention), torch.randn(1, 7, 32)
    mask, rotary = torch.ones(1, 7, dtype=torch.bool), sequence_rotary(7, 8)
    attention(x, attention_mask(mask), rotary)
    inside = torch.zeros(1, 7, 7, dtype=torch.bool)
    inside[0, 5, 1:3] = True
    inside[0, 2, 4] = True  # in its future: nothing is asked
    loss, share = (value.detach() for value in guide.loss(inside))
    heads = attention.to_qkv(x)[0].unflatten(-1, (-1, 8))
    from photophone.kernels.rotary import rotate
    query, keys = (rotate(heads[:, place][None, None], rotary, True)[0, 0] for place in (0, 4))
    weights = (keys[:6] @ query[5] / math.sqrt(8)).softmax(0).detach()
    assert float(share) == pytest.approx(float(weights[1:3].sum()), rel=1e-4)
    assert float(loss) == pytest.approx(-math.log(float(weights[1:3].sum())), rel=1e-4)


def test_a_tiny_chain_says_what_it_learned(data, tmp_path):
    """From clips to the authors' layout and back: the pipeline says the codes of the clip, with its own draws."""
    codec = tiny_codec(3).eval()
    codec.save_pretrained(tmp_path / "codec")
    make_vocabulary(tmp_path / "vocabulary", data, codec, 260)
    write_spark_examples(tmp_path / "train.safetensors", data, codec, tmp_path / "vocabulary", "female")
    examples = SpeechExamples(tmp_path / "train.safetensors")
    assert len(examples) == 2 * len(data)
    end = 260
    assert all(tokens[-1] == end for tokens in examples.tokens)
    torch.manual_seed(0)
    model = SparkTTS(**{**arguments(find("spark-tts-0.5b")), "vocab_size": 2000, "end": end, "max_length": 4000})
    task = GuidedLMTask(model, examples, positions=4000, guides=[guides_of(tmp_path / "train.safetensors")],
                        guide_layer=1)
    batch = task.batch(np.arange(len(task.groups)), np.random.default_rng(0))
    size, rows = batch["condition"].ids.shape[1], np.concatenate(task.groups)
    for inside, row in zip(batch["inside"], rows, strict=True):
        shift, span = size - len(examples.ids[row]), task.spans[row]
        assert span.any() and not inside[:size - 1].any()
        for token, (first, last) in enumerate(span.tolist()):
            expected = list(range(shift + first, shift + last)) if last else []
            assert inside[size - 1 + token].nonzero()[:, 0].tolist() == expected
    first, _ = task.loss(task.model, batch, 0)
    first.backward()
    assert model.embedding.weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path / "lm")
    write_release(tmp_path / "release", tmp_path / "lm", tmp_path / "codec", tmp_path / "vocabulary")
    pipeline = load_release(tmp_path / "release")
    front, own = pipeline.front, examples.tokens[1]
    for text in ("There is ONE.", "it's 12"):  # what the language model learned is what it gets
        read = pipeline.text_tokenizer(text)["input_ids"]
        assert read == load_tokenizer(tmp_path / "vocabulary")(text)["input_ids"]
        assert pipeline.text_tokenizer.decode(read) == text
    ids = pipeline.text_tokenizer(front.prompt(data.fields[0]["text"], front.read_voice(VoiceAttributes("female"))))
    made = pipeline.speech_generator.generate(PromptIds.of_rows([ids["input_ids"]]),
                                              noise=SeededNoise.from_seeds([0]), sampler=SparkSampler(max_tokens=3))
    assert made.values.shape == (1, 3) and int(own.max()) < len(pipeline.text_tokenizer)
    clip = data.clip(0)[None, None]
    assert torch.equal(pipeline.codec.encode(clip).values, codec.encode(clip).values)
