"""SpeechEnhancer and LiveEnhancer: photophone's own enhancers of speech."""

from __future__ import annotations

from photophone.loading.entry import OWN, ModelEntry

ENTRIES = [
    ModelEntry("photophone/tiny-enhance", "pipeline",
               "photophone.pipelines.speech_enhancement:SpeechEnhancementPipeline",
               "noisy speech to clean speech, any rate and length, 2.2 million parameters",
               "in the line of arXiv 2503.00493 and 1904.08369", "Apache-2.0",
               "Apache-2.0; training data in its card", folder="tiny-enhance", sampler={"mix": 1.0}),
    ModelEntry("photophone/tiny-enhance-live", "pipeline",
               "photophone.pipelines.speech_enhancement:SpeechEnhancementPipeline",
               "noisy speech to clean speech while it comes in, 32 ms later, 2.2 million parameters",
               "in the line of arXiv 1904.08369", "Apache-2.0",
               "Apache-2.0; training data in its card", folder="tiny-enhance-live", sampler={"mix": 1.0}),
    ModelEntry("speech-enhancer", "enhancer", "photophone.generators.enhancer.model:SpeechEnhancer",
               "noisy 16 kHz speech to clean tokens of stream-codec and, by a filter, to clean speech; 4.0 M",
               "in the line of arXiv 2503.00493 and 1904.08369", **OWN, parameters=3_989_036,
               tiny={"n_fft": 64, "hop_length": 32, "channels": [8, 8], "squeeze": 4, "width": 24, "hidden": 32,
                     "depth": 2, "token_depth": 1, "token_dim": 6, "token_hop": 80}),
    ModelEntry("live-enhancer", "enhancer", "photophone.generators.enhancer.live:LiveEnhancer",
               "noisy 16 kHz speech to clean speech while it comes in, by a filter, 32 ms later; 2.2 M",
               "in the line of arXiv 1904.08369", **OWN, parameters=2_231_764,
               tiny={"n_fft": 64, "hop_length": 32, "channels": [8, 8], "squeeze": 4, "width": 24, "hidden": 32,
                     "depth": 2, "waist": 6, "waist_depth": 1}),
]
