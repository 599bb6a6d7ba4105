"""Folders of tiny CosyVoices and parts of Spark-TTS as their authors publish them, with random weights."""

import base64

import torch
from s3_onnx import without_key_bias, write_onnx
from tiny import arguments
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from photophone import TextToSpeechPipeline, create_model
from photophone.codecs.speech_units.onnx_write import write_voice_network
from photophone.loading.registry import find
from photophone.text.cosyvoice import added_tokens
from photophone.text.whisper_text import special_tokens


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def recording(rate, seconds=0.5):
    time = torch.arange(round(rate * seconds)) / rate
    return 0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 700 * time)


def byte_vocabulary(added=()):
    """A vocabulary of single bytes, and added tokens behind."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    made.add_tokens(list(added))
    return made


def built(name, seed=0, **settings):
    """The tiny model of an entry, with larger weights so that what it makes differs."""
    torch.manual_seed(seed)
    model = create_model(name, **{**find(name).tiny, **settings})
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def part_configs(name, step=None):
    """Sizes of the tiny parts that fit each other; ``step``: tokens of a piece of a stream."""
    third, units = name == "cosyvoice3-0.5b", find(name).chain.files["units"]
    flow = arguments(find(f"{name}-flow"))
    if step is not None:
        flow["estimator_config"] = {**flow["estimator_config"], "chunk": 2 * step}
        flow["encoder_config"] = {**flow["encoder_config"], **({} if third else {"chunk": step})}
    if name.startswith("cosyvoice-300m"):
        tokens, vocabulary, more = 32, 256 + len(special_tokens(name.endswith("25hz"))), {}
    else:
        tokens, vocabulary, more = 6561, 256 + len(added_tokens(third)), {"mix": [5, 15]}
    return {"llm": {**arguments(find(name)), "vocab_size": vocabulary, "num_tokens": tokens, **more,
                    "max_length": 4000},
            "flow": {**flow, "vocab_size": tokens}, "units": {**arguments(find(units)), "depth": 1},
            "hift": arguments(find(f"{name}-hift"))}


def write_ranks(path, words=()):
    """A ``.tiktoken`` vocabulary of single bytes and further words."""
    ranked = [bytes([byte]) for byte in range(256)] + [word.encode() for word in words]
    path.write_bytes(b"".join(base64.b64encode(word) + b" %d\n" % rank for rank, word in enumerate(ranked)))
    return path


def write_cosyvoice(folder, name, step=None):
    """The folder of a tiny CosyVoice as its authors publish it."""
    configs = part_configs(name, step)
    lm = built(name, 1, **configs["llm"])
    _write_sound(folder, name, configs)
    lm.save_original(folder)
    if name.startswith("cosyvoice-300m"):
        write_ranks(folder / "multilingual.tiktoken")
    else:
        byte_vocabulary().save_pretrained(folder / "CosyVoice-BlankEN")
    return folder


def _write_sound(folder, name, configs):
    """Flow and vocoder, and what reads voices."""
    built(f"{name}-flow", 2, **configs["flow"]).save_pretrained(folder / "flow")
    built(f"{name}-hift", 3, **configs["hift"]).save_pretrained(folder / "hift")
    units = find(name).chain.files["units"]
    write_onnx(without_key_bias(create_model(units, **configs["units"])), folder / find(units).files[0])
    write_voice_network(folder / "campplus.onnx", configs["flow"]["speaker_dim"])


def write_speakers(path, width, mels):
    """A table of two speakers as ``spk2info.pt`` has them: one with a vector, one with a recording as well."""
    generator = torch.Generator().manual_seed(7)
    vector = torch.randn(2, 1, width, generator=generator)
    recording = {"prompt_text": torch.tensor([[3, 4, 5]], dtype=torch.int32), "prompt_text_len": torch.tensor([3]),
                 "llm_prompt_speech_token": torch.tensor([[1, 2, 3, 4]], dtype=torch.int32),
                 "flow_prompt_speech_token": torch.tensor([[1, 2, 3, 4]], dtype=torch.int32),
                 "prompt_speech_feat": torch.randn(1, 8, mels, generator=generator),
                 "llm_embedding": vector[1], "flow_embedding": vector[1]}
    torch.save({"中文女": {"embedding": vector[0]}, "reader": recording}, path)
    return path


def load_cosyvoice(folder, name, step=None, **options):
    pipeline = TextToSpeechPipeline.from_original(
        name, folder, part_configs=part_configs(name, step), flow=folder / "flow", hift=folder / "hift", **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
