"""Speech enhancement: the data of the registry."""

from __future__ import annotations

from photophone.registry.entry import OWN, Chain, ModelEntry

ENTRIES = [
    ModelEntry("photophone/tiny-enhance", "pipeline",
               "photophone.pipelines.speech_enhancement:SpeechEnhancementPipeline",
               "noisy speech to clean speech, any rate and length, 2.2 million parameters",
               "in the line of arXiv 2503.00493 and 1904.08369", "Apache-2.0",
               "Apache-2.0; training data in its card", folder="tiny-enhance", chain=Chain({}, {"mix": 1.0})),
    ModelEntry("llase-g1", "generator", "photophone.generators.llase_g1:LLaSEG1",
               "WavLM-Large features of noisy speech to the codes of X-Codec 2; five tasks, 0.94B parameters",
               "2503.00493", "none stated", "none stated", hub_id="ASLP-lab/LLaSE-G1", files=("ckpt/model.pt.tar",),
               tiny={"feature_dim": 16, "width": 16, "depth": 2, "num_heads": 4, "num_codes": 64},
               chain=Chain({"wavlm": "wavlm-large-layer6", "llase": "llase-g1", "codec": "xcodec2"}, {},
                           {"decodes_only": True}, pipeline="SpeechEnhancementPipeline")),
    ModelEntry("wavlm-large-layer6", "features", "photophone.layers.wavlm_features:WavLM",
               "16 kHz speech to 50 features of 1,024 a second: layer 6 of 24, what LLaSE-G1 reads", "2110.13900",
               "MIT (original); Apache-2.0 (transformers)", "MIT by the repository, CC BY-SA 3.0 by the hub page",
               hub_id="microsoft/wavlm-large", files=("pytorch_model.bin",),
               tiny={"width": 16, "depth": 2, "num_heads": 2, "hidden": 24, "convs": [[8, 10, 5], [8, 8, 8], [8, 4, 8]],
                     "position_kernel": 8, "position_groups": 4, "num_buckets": 16, "max_distance": 40}),
    ModelEntry("speech-enhancer", "generator", "photophone.generators.enhancer:SpeechEnhancer",
               "noisy 16 kHz speech to clean tokens of stream-codec and, by a filter, to clean speech; 4.0 M",
               "in the line of arXiv 2503.00493 and 1904.08369", **OWN,
               tiny={"n_fft": 64, "hop_length": 32, "channels": [8, 8], "squeeze": 4, "width": 24, "hidden": 32,
                     "depth": 2, "token_depth": 1, "token_dim": 6, "token_hop": 80}),
]
