"""CSpD: continuous speculative decoding of two MARs."""

from __future__ import annotations

from photophone.generators.mar import MAR, mar_config
from photophone.loading.entry import Chain, ModelEntry


def _cspd(target: str, draft: str, parameters: int) -> ModelEntry:
    """Two published MARs, the smaller of which proposes tokens."""
    tiny = {name: value // 2 if name.endswith("width") else value for name, value in MAR["tiny"].items()}
    return ModelEntry(f"mar-{target}-cspd-{draft}", "generator", "photophone.generators.cspd.model:SpeculativeMAR",
                      f"mar-{target} with mar-{draft} as its draft: continuous speculative decoding", "2411.11925",
                      "MIT", MAR["weights_licence"], parameters=parameters,
                      config={"target_config": mar_config(target), "draft_config": mar_config(draft)},
                      chain=Chain({"target": f"mar-{target}", "draft": f"mar-{draft}"}, ("vae", "mar-kl16"), {
                          "num_order_steps": 256, "num_draft_steps": 4, "prefill": 0.05, "num_inference_steps": 100,
                          "guidance_scale": 4.0, "guidance_schedule": "constant"}),
                      tiny={"target_config": MAR["tiny"], "draft_config": tiny},
                      tiny_sampler={**MAR["tiny_sampler"], "num_order_steps": 4, "num_draft_steps": 2})


ENTRIES = [_cspd("large", "base", 686_251_072), _cspd("huge", "base", 1_150_327_872)]
