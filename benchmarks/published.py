"""Do published generators run at their full shape here, what do they cost, how much memory do they take?

Each is built at its published size with random weights and makes one image through its pipeline, in a process of its
own; an image tokenizer reads an image and draws it again. Samplers are the published ones with fewer steps where there
is a choice; LlamaGen and VAR have none. ``--all`` adds larger ones, which need up to ten gigabytes. Any registered
generator of images can be named; ``--dtype bfloat16`` halves the memory of the largest, such as Orthus.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
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
from photophone.pipelines.images import ImagePipeline
from photophone.pipelines.interleaved import InterleavedPipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.text.captions import train_caption_tokenizer

SMALL = ("llamagen-b-256", "mar-base", "xar-base", "var-d16", "titok-l32-generator", "titok-b64-generator",
         "titok-s128-generator", "elm-l-2-10", "elm-mlm-l-1-16", "tokenset-s", "fpdm-xl", "bitdance-b-16x",
         "bar-b-patch4")
LARGE = ("bar-b", "bar-b-patch2", "bitdance-b-1x", "bitdance-b-4x", "bitdance-l-1x", "maskgen-vq-l", "maskgen-kl-l",
         "tokenset-b", "hart-0.7b-1024", "elm-xl-2-10", "llamagen-l-384", "llamagen-xl-t2i-256", "mar-large",
         "mar-large-cspd-base", "xar-large", "var-d20")
TOKENIZERS = ("tatitok-bl32-vq", "tatitok-bl128-vq", "tatitok-bl32-vae", "tatitok-sl128-vae", "alit-s-vqgan-in1k",
              "alit-s-kl-in100", "elm-bae-16", "tokenset-128", "seed-tokenizer-2", "mingtok-vision", "orthus-vae",
              "chameleon-vq", "hart-vq16-1024", "bitdance-d16c32", "bar-fsq-16bits", "sd-vae-ft-mse")
SHORT = {"mar": {"num_order_steps": 8, "num_inference_steps": 10, "head_sampler": "ddim"},
         "xar": {"num_inference_steps": 4}, "tokenset": {"num_inference_steps": 4},
         "maskgen-kl": {"num_order_steps": 8, "num_inference_steps": 10}, "bitdance": {"num_inference_steps": 4},
         "fpdm": {"num_inference_steps": 2}, "orthus": {"num_inference_steps": 4}, "ming": {"num_inference_steps": 2}}
"""Fewer steps than published, by the beginning of the name."""
PROMPT = "a red apple"


def build(name: str) -> ImagePipeline:
    """The pipeline of a published generator with random weights. Captions are read by a random encoder of one block
    whose features have the published width, or as ids of a vocabulary of numbers."""
    torch.manual_seed(0)
    chain, published = find(name).chain, {"model": name, "revision": None}
    parts = {"token_generator": create_model(name).eval(),
             "image_tokenizer": create_model(chain.tokenizer[1], **chain.tokenizer_config).eval()}
    if chain.pipeline == "ClassToImagePipeline":
        return ClassToImagePipeline(**parts, published=published)
    if chain.text_encoder is None:
        family = InterleavedPipeline if chain.pipeline == "InterleavedPipeline" else TextToImagePipeline
        return family(numbers(parts["token_generator"].config.vocab_size), **parts, published=published)
    return TextToImagePipeline(words(), **parts, published=published,
                               text_encoder=text_encoder(parts["token_generator"].config).eval())


def words() -> PreTrainedTokenizerFast:
    """A small vocabulary of captions."""
    return PreTrainedTokenizerFast(tokenizer_object=train_caption_tokenizer([PROMPT], 99, 512).tokenizer,
                                   pad_token="<pad>", unk_token="<unk>", model_max_length=512)


def numbers(size: int) -> PreTrainedTokenizerFast:
    """A vocabulary of so many words "w0", "w1" and so on: what the ids mean does not matter to what they cost."""
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(size)}, unk_token="w5"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w5")


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


def one_image(pipeline: ImagePipeline, options: dict) -> tuple[int, str, float]:
    """Parameters of a generator, the size of the image that it made, and processor seconds."""
    pipeline.set_progress_bar_config(disable=True)
    request = 207 if isinstance(pipeline, ClassToImagePipeline) else PROMPT
    if isinstance(pipeline, InterleavedPipeline):
        embeds = not hasattr(pipeline.image_tokenizer, "reconstruct")  # unCLIP, which draws them, is no part of this
        options = {**options, "kind": "image", **({"output_type": "latent"} if embeds else {})}
    started = time.process_time()
    image = pipeline(request, generator=torch.Generator().manual_seed(1), **options).images[0]
    image = image[0] if isinstance(image, list) else image
    seconds = time.process_time() - started
    size = f"{image.width}x{image.height}" if isinstance(image, Image.Image) else f"{image.num_tokens} codes"
    return pipeline.token_generator.num_parameters(), size, seconds


def short_options(name: str) -> dict:
    """Options of the call that make fewer steps than published, or none."""
    return next((short for start, short in SHORT.items() if name.startswith(start)), {})


def there_and_back(name: str) -> tuple[int, str, float]:
    """Parameters of an image tokenizer, what its tokens became, and processor seconds for both ways."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    image = torch.rand(1, 3, model.image_size, model.image_size) * 2 - 1
    read = {"text_states": torch.randn(1, model.config.text_length, model.config.text_dim)} \
        if "text_states" in getattr(model, "decode_options", ()) else {}
    started = time.process_time()
    made = model.decode(model.encode(image), **read)
    seconds = time.process_time() - started
    size = f"{made.shape[3]}x{made.shape[2]}" if made.ndim == 4 else f"{made.shape[1]} numbers"
    return model.num_parameters(), size, seconds


def measure(name: str, threads: int, dtype: str) -> None:
    """Print one line for one generator or image tokenizer."""
    torch.set_num_threads(threads)
    torch.set_default_dtype(getattr(torch, dtype))
    options, generator = short_options(name), find(name).kind == "generator"
    count, size, seconds = one_image(build(name), options) if generator else there_and_back(name)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    what = (options or "published sampler") if generator else "there and back"
    print(f"{name:22s} {count / 1e6:6.0f} M  {size:>11s}  {seconds:6.1f} s of one core  {memory:5.1f} GiB  {what}",
          flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="registered generators and image tokenizers; none runs the small ones")
    parser.add_argument("--all", action="store_true", help="the large ones too")
    parser.add_argument("--tokenizers", action="store_true", help="the image tokenizers instead")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of all weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child, arguments.threads, arguments.dtype)
        return
    known = TOKENIZERS if arguments.tokenizers else (*SMALL, *(LARGE if arguments.all else ()))
    for name in arguments.names or known:
        subprocess.run([sys.executable, __file__, "--child", name, "--threads", str(arguments.threads),
                        "--dtype", arguments.dtype], check=True)


if __name__ == "__main__":
    main()
