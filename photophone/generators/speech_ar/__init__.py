"""SpeechFlowAR: photophone's own text-to-speech generator."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

CLASSES = {"speech-ar": "photophone.generators.speech_ar.model:SpeechFlowAR"}
ENTRIES = [
    ModelEntry("photophone/tiny-speech", "pipeline", "photophone.pipelines.text_to_speech:TextToSpeechPipeline",
               "English text to 16 kHz speech of one synthetic voice, streaming, 7.9 million parameters",
               "in the line of arXiv 2502.03930", "Apache-2.0", "Apache-2.0; training data in its card",
               folder="tiny-speech",
               sampler={"num_inference_steps": 8, "guidance_scale": 1.5, "temperature": 1.0}),
]
