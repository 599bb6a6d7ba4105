"""BAR: classes to tokens of bits, by a masked bit head."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

TINY = {"grid_size": 2, "token_bits": 6, "step_side": 1, "num_classes": 10, "class_repeats": 2, "width": 32,
        "depth": 1, "num_heads": 2, "head_width": 32, "head_depth": 1}
SIZES = {"b": (768, 24, 12), "l": (1280, 32, 16)}


def _bar(name: str, file: str, tokenizer: str, parameters: int, guidance: float, temperature: float,  # noqa: PLR0917
         steps: str, **config) -> ModelEntry:
    """A published BAR."""
    width, depth, heads = SIZES[name[4]]
    pixels = 16 * config.get("grid_size", 16)
    sampler = {"guidance_scale": guidance, "temperature": temperature, "bit_steps": steps}
    return ModelEntry(name, "generator", "photophone.generators.bar.model:BAR", paper="2602.09024",
                      summary=f"ImageNet classes to the codes of {tokenizer} at {pixels} pixels",
                      code_licence="Apache-2.0", weights_licence="Apache-2.0; trained on ImageNet",
                      hub_id="FAR-Amazon/BAR-collections", files=(f"generator/{file}.bin",), parameters=parameters,
                      config={"width": width, "depth": depth, "num_heads": heads, **config}, tiny=TINY,
                      tiny_sampler={"guidance_scale": 2.0, "temperature": 0.1, "bit_steps": "1,2,3"},
                      chain=Chain({"bar": name}, ("fsq", tokenizer), sampler))


ENTRIES = [
    _bar("bar-b", "bar_b", "bar-fsq-16bits-ft", 415_321_902, 5.0, 2.5, "2,2,5,7"),
    _bar("bar-b-patch2", "bar_b_patch2", "bar-fsq-16bits", 415_075_842, 5.5, 2.0, "16,16,16,16", step_side=2),
    _bar("bar-b-patch4", "bar_b_patch4", "bar-fsq-16bits", 415_751_967, 9.6, 1.4, "64,64,64,64", step_side=4),
    _bar("bar-l", "bar_l", "bar-fsq-16bits-ft", 1_107_798_734, 5.3, 3.0, "2,2,5,7"),
    _bar("bar-l-512", "bar_l_res512", "bar-fsq-10bits-512", 1_110_727_737, 4.2, 2.8, "2,2,2,4", grid_size=32,
         token_bits=10),
]
