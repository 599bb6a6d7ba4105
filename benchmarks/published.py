"""Do published generators run at their full shape here, what do they cost, how much memory do they take?

Each is built at its published size with random weights and makes one image through its pipeline, in a process of its
own. Samplers are the published ones with fewer steps where there is a choice; LlamaGen and VAR have none. ``--all``
adds larger ones, which need up to ten gigabytes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    T5Config,
    T5EncoderModel,
)

from photophone import create_model
from photophone.loading.registry import find
from photophone.pipelines.class_to_image import ClassToImagePipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.text.captions import train_caption_tokenizer

SMALL = ("llamagen-b-256", "mar-base", "xar-base", "var-d16", "titok-l32-generator", "titok-b64-generator",
         "titok-s128-generator", "elm-l-2-10", "tokenset-s")
LARGE = ("maskgen-vq-l", "maskgen-kl-l", "tokenset-b",
         "llamagen-l-384", "llamagen-xl-t2i-256", "mar-large", "mar-large-cspd-base", "xar-large", "var-d20")
SHORT = {"mar": {"num_order_steps": 8, "num_inference_steps": 10, "head_sampler": "ddim"},
         "xar": {"num_inference_steps": 4}, "tokenset": {"num_inference_steps": 4},
         "maskgen-kl": {"num_order_steps": 8, "num_inference_steps": 10}}
"""Fewer steps than published, by the beginning of the name."""
PROMPT = "a red apple"


def build(name: str) -> ClassToImagePipeline | TextToImagePipeline:
    """The pipeline of a published generator with random weights; captions are read by a random encoder of one block
    whose features have the published width."""
    torch.manual_seed(0)
    chain, published = find(name).chain, {"model": name, "revision": None}
    parts = {"token_generator": create_model(name).eval(),
             "image_tokenizer": create_model(chain.tokenizer[1], **chain.tokenizer_config).eval()}
    if chain.text_encoder is None:
        return ClassToImagePipeline(**parts, published=published)
    vocabulary = PreTrainedTokenizerFast(tokenizer_object=train_caption_tokenizer([PROMPT], 99, 512).tokenizer,
                                         pad_token="<pad>", unk_token="<unk>", model_max_length=512)
    return TextToImagePipeline(vocabulary, **parts, published=published,
                               text_encoder=text_encoder(parts["token_generator"].config).eval())


def text_encoder(config: dict) -> PreTrainedModel:
    """A random encoder of one block for a generator of this config, whose features have the published width."""
    if "text_dim" in config:  # CLIP
        width = config["text_dim"]
        return CLIPTextModelWithProjection(CLIPTextConfig(
            vocab_size=99, hidden_size=width, projection_dim=width, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=12, bos_token_id=97, eos_token_id=98))
    if "context_dim" in config:  # a language model
        return Qwen2Model(Qwen2Config(vocab_size=99, hidden_size=config["context_dim"], intermediate_size=64,
                                      num_hidden_layers=1, num_attention_heads=12, num_key_value_heads=2))
    return T5EncoderModel(T5Config(vocab_size=99, d_model=config["caption_dim"], d_ff=64, num_layers=1))


def measure(name: str, threads: int) -> None:
    """Print one line for one generator."""
    torch.set_num_threads(threads)
    pipeline = build(name)
    pipeline.set_progress_bar_config(disable=True)
    options = next((short for start, short in SHORT.items() if name.startswith(start)), {})
    condition = PROMPT if isinstance(pipeline, TextToImagePipeline) else 207
    started = time.process_time()
    (image,) = pipeline(condition, generator=torch.Generator().manual_seed(1), **options).images
    seconds = time.process_time() - started
    count = sum(weight.numel() for weight in pipeline.token_generator.parameters()) / 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:22s} {count:6.0f} M  {image.width}x{image.height}  {seconds:6.1f} s of one core  {memory:5.1f} GiB  "
          f"{options or 'published sampler'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="registered generators; none runs the small ones")
    parser.add_argument("--all", action="store_true", help="the large ones too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child, arguments.threads)
        return
    for name in arguments.names or (*SMALL, *(LARGE if arguments.all else ())):
        subprocess.run([sys.executable, __file__, "--child", name, "--threads", str(arguments.threads)], check=True)


if __name__ == "__main__":
    main()
