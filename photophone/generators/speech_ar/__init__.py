"""SpeechFlowAR: photophone's own text-to-speech generator."""

from __future__ import annotations

from photophone.loading.entry import OWN, ModelEntry

ENTRIES = [
    ModelEntry("photophone/tiny-speech", "pipeline", "photophone.pipelines.text_to_speech:TextToSpeechPipeline",
               "English text to 24 kHz speech of four synthetic voices, streaming, 8.6 million parameters",
               "in the line of arXiv 2502.03930", "Apache-2.0", "Apache-2.0; training data in its card",
               folder="tiny-speech",
               sampler={"guidance_scale": 2.0, "temperature": 1.0}),
    ModelEntry("speech-flow-ar", "generator", "photophone.generators.speech_ar.model:SpeechFlowAR",
               "English phonemes to the tokens of stream-codec, streaming; the class of photophone/tiny-speech, 4.3 M",
               "in the line of arXiv 2502.03930", **OWN, parameters=4_304_825,
               tiny={"token_dim": 8, "text_width": 32, "text_depth": 1, "aligned_depth": 1, "width": 32, "depth": 2,
                     "num_heads": 2, "window": 4, "cond_width": 16,
                     "head_config": {"width": 32, "depth": 1, "num_heads": 2}},
               tiny_sampler={"num_inference_steps": 2}),
]
