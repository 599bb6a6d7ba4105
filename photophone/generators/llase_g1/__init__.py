"""LLaSE-G1: enhancement, extraction and more by one network, and WavLM, which it reads."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

TINY = {"feature_dim": 16, "width": 16, "depth": 2, "num_heads": 4, "num_codes": 64}
TINY_WAVLM = {"width": 16, "depth": 2, "num_heads": 2, "hidden": 24, "convs": [[8, 10, 5], [8, 8, 8], [8, 4, 8]],
              "position_kernel": 8, "position_groups": 4, "num_buckets": 16, "max_distance": 40}
TINY_CODEC = {"width": 32, "hidden": 32, "depth": 1, "num_heads": 2, "head_width": 16, "encoder_width": 2,
              "levels": [4, 4, 4], "semantic": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                                                "intermediate_size": 16}}
ENTRIES = [
    ModelEntry("llase-g1", "generator", "photophone.generators.llase_g1.model:LLaSEG1",
               "WavLM-Large features of noisy speech to the codes of X-Codec 2; five tasks, 0.94B parameters",
               "2503.00493", "none stated", "none stated", hub_id="ASLP-lab/LLaSE-G1", files=("ckpt/model.pt.tar",),
               tiny=TINY, tiny_sampler={"temperature": 0.1}, parameters=941_821_952,
               chain=Chain({"wavlm": "wavlm-large-layer6", "llase": "llase-g1"}, ("codec", "xcodec2"), {},
                           {"decodes_only": True}, pipeline="SpeechEnhancementPipeline")),
    ModelEntry("wavlm-large-layer6", "features", "photophone.generators.llase_g1.wavlm:WavLM",
               "16 kHz speech to 50 features of 1,024 a second: layer 6 of 24, what LLaSE-G1 reads", "2110.13900",
               "MIT (original); Apache-2.0 (transformers)", "MIT by the repository, CC BY-SA 3.0 by the hub page",
               hub_id="microsoft/wavlm-large", files=("pytorch_model.bin",),
               tiny=TINY_WAVLM, parameters=88_708_368),
    ModelEntry("llase-enhancer", "enhancer", "photophone.generators.llase_g1.enhancer:LLaSEEnhancer",
               "noisy 16 kHz speech to clean speech, five tasks: wavlm-large-layer6, llase-g1 and xcodec2 in one",
               "2503.00493", "none stated", "those of its parts", parameters=1_217_530_394,
               tiny={"wavlm_config": TINY_WAVLM, "llase_config": TINY, "codec_config": TINY_CODEC,
                     "context_seconds": 0.1}),
]
