"""Spark-TTS: Qwen2 that speaks with recorded or described voices in the codes of BiCodec."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

ENTRIES = [
    ModelEntry("spark-tts-0.5b", "generator", "photophone.generators.sparktts.model:SparkTTS",
               "Chinese and English prompts to the codes of bicodec-spark-tts-0.5b, recorded or described voices",
               "2503.01710", "Apache-2.0", "CC BY-NC-SA 4.0, as users report of the hub page; see it before use",
               hub_id="SparkAudio/Spark-TTS-0.5B", files=("LLM/model.safetensors",), parameters=506_634_112,
               chain=Chain({"llm": "spark-tts-0.5b"}, ("bicodec", "bicodec-spark-tts-0.5b"),
                           {"temperature": 0.8, "top_k": 50, "top_p": 0.95}, pipeline="TextToSpeechPipeline",
                           text_tokenizer="SparkAudio/Spark-TTS-0.5B"),
               tiny={"vocab_size": 64, "width": 32, "depth": 2, "num_heads": 4, "num_kv_heads": 2, "hidden": 48,
                     "end": 63, "max_length": 100},
               tiny_sampler={"max_tokens": 4, "min_tokens": 4, "temperature": 0.05}),
]
