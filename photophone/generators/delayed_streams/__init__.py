"""Delayed streams: one language model over text and speech that are shifted against each other; Moshi is one."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TINY = {"card": 12, "text_card": 20, "books": 4, "spoken_books": 2, "delays": [0, 0, 1, 0, 1], "width": 24, "depth": 2,
        "num_heads": 2, "hidden": 48, "window": 5, "depth_width": 16, "depth_layers": 2, "depth_heads": 2,
        "depth_hidden": 24, "depth_sets": [0, 1], "input_sets": [0, 1]}


def _moshi(name: str, voice: str) -> ModelEntry:
    return ModelEntry(name, "generator", "photophone.generators.delayed_streams.model:DelayedStreams",
                      f"English dialogue over the codes of mimi-8, {voice} voice, 7.7B parameters", "2410.00037", "MIT",
                      "CC BY 4.0", hub_id=f"kyutai/{name}-pytorch-bf16", files=("model.safetensors",),
                      parameters=7_687_729_152, tiny=TINY)


ENTRIES = [_moshi("moshiko", "a male"), _moshi("moshika", "a female")]
