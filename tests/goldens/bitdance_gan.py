"""BitDance's tokenizers whose decoder reads noise."""

from __future__ import annotations

from bitdance import tokenizer
from golden import Golden, System

from photophone.tokenizers.grid import to_grid, to_sequence

system = System("bitdance_gan")


@system.part("out_*")
def images(golden: Golden):
    model = tokenizer(golden, decoder_noise=True)
    latents = model.encode_grid(golden["in_image"])
    bits = to_grid(model.bottleneck(to_sequence(latents)).values, latents.shape[2:])
    return {"out_bits": bits, "out_decode": model.decode_grid(bits, golden.replay("decode"))}
