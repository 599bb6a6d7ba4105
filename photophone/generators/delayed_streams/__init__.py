"""Delayed streams: one language model over text and speech that are shifted against each other; Moshi is one."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

TINY = {"card": 12, "text_card": 20, "books": 4, "spoken_books": 2, "delays": [0, 0, 1, 0, 1], "width": 24, "depth": 2,
        "num_heads": 2, "hidden": 48, "window": 5, "depth_width": 16, "depth_layers": 2, "depth_heads": 2,
        "depth_hidden": 24, "depth_sets": [0, 1], "input_sets": [0, 1]}
TINY_WRITING = {**TINY, "spoken_books": 0, "delays": [0] * 5, "depth_sets": [], "input_sets": [],
                "text_delay": 0.5, "silent_start": 0.0}
TINY_SPEAKING = {**TINY, "books": 3, "spoken_books": 3, "delays": [0, 0, 2, 2], "depth_rank": 8,
                 "depth_sets": [0, 1, 1], "input_sets": [0, 1, 1], "speech_delay": 3,
                 "conditioners": {"speaker_wavs": {"dim": 6}, "control": {"dim": 24, "words": ["ok"], "num_words": 1},
                                  "cfg": {"dim": 4, "words": ["1.0", "1.5", "2.0"], "num_words": 3}}}
WRITING = {"books": 32, "spoken_books": 0, "delays": [0] * 33, "width": 2048, "hidden": 5632, "rotary_base": 100_000.0,
           "depth_sets": [], "input_sets": []}
SETS = [*range(8), *[8] * 8, *[9] * 8, *[10] * 8]
STRENGTHS = ["1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"]
SPEAKING = {"text_card": 8000, "books": 32, "spoken_books": 32, "delays": [0, 0, *[2] * 31], "width": 2048, "depth": 16,
            "num_heads": 16, "hidden": 5632, "window": 500, "two_texts": True, "depth_layers": 4, "depth_hidden": 2048,
            "depth_rank": 128, "depth_sets": SETS, "input_sets": SETS, "cross_attention": True,
            "conditioners": {"speaker_wavs": {"dim": 512}, "control": {"dim": 2048, "words": ["ok"], "num_words": 1},
                             "cfg": {"dim": 16, "words": STRENGTHS, "num_words": 7}},
            "sums": ["control", "cfg"], "crosses": ["speaker_wavs"], "cross_positions": 1.0, "speech_delay": 16,
            "words_ahead": 2, "signature": "1e68beda@240"}
SMALL_SETS = [*range(8), *[8] * 8]
SMALL_SPEAKING = {"text_card": 8000, "books": 16, "spoken_books": 16, "delays": [0, 0, *[2] * 15], "width": 1024,
                  "depth": 24, "num_heads": 16, "hidden": 2816, "window": 500, "depth_layers": 4, "depth_hidden": 2048,
                  "depth_rank": 128, "depth_sets": SMALL_SETS, "input_sets": SMALL_SETS, "speech_delay": 16}
"""Books and delays are told by the release's page; all other sizes, width and vocabulary too, are inferred from its
"300 M and 450 M parameters": the ``config.json`` of the release, without which none is loaded, says what they are."""
TINY_GOING_ON = {**TINY, "books": 3, "spoken_books": 3, "delays": [0, 0, 2, 2], "depth_rank": 8,
                 "depth_sets": [0, 1, 1], "input_sets": [0, 1, 1], "speech_delay": 3}


def _entry(name: str, summary: str, paper: str, hub: str, file: str = "model.safetensors", *,
           model: str = "model:DelayedStreams", **options: Any) -> ModelEntry:
    return ModelEntry(name, "generator", f"photophone.generators.delayed_streams.{model}", summary, paper, "MIT",
                      "CC BY 4.0", hub_id=f"kyutai/{hub}", files=(file,), **options)


def _moshi(name: str, voice: str) -> ModelEntry:
    return _entry(name, f"English dialogue over the codes of mimi-8, {voice} voice, 7.7B parameters", "2410.00037",
                  f"{name}-pytorch-bf16", parameters=7_687_729_152, tiny=TINY)


def _chain(name: str, pipeline: str, codec: str = "mimi-32", **sampler: float) -> Chain:
    return Chain({"lm": name}, ("mimi", codec), sampler=sampler, pipeline=pipeline)


def _writing(name: str, hub: str, languages: str, parameters: int, **config: Any) -> ModelEntry:
    return _entry(name, f"{languages} speech as codes of mimi-32 to text with the times of words, "
                        f"{config['text_delay']} s late", "2509.08753", hub, config={**WRITING, **config},
                  tiny=TINY_WRITING, parameters=parameters,
                  chain=_chain(name, "SpeechToTextPipeline", temperature=0.0, text_temperature=0.0))


ENTRIES = [
    _moshi("moshiko", "a male"), _moshi("moshika", "a female"),
    _writing("kyutai-stt-1b-en-fr", "stt-1b-en_fr", "English and French", 989_204_480, text_card=8000, depth=16,
             num_heads=16, window=750, text_delay=0.5),
    _writing("kyutai-stt-2.6b-en", "stt-2.6b-en", "English", 2_617_118_720, text_card=4000, depth=48, num_heads=32,
             window=375, text_delay=2.5, silent_start=1.0, signature="dabcc802@50"),
    _entry("kyutai-tts-1.6b-en-fr", "English and French text to the codes of mimi-32, in voices that are published",
           "2509.08753", "tts-1.6b-en_fr", "dsm_tts_1e68beda@240.safetensors", model="speech:DelayedSpeech",
           config=SPEAKING, tiny=TINY_SPEAKING, training_name="delayed-speech", parameters=1_836_419_200,
           languages=("english", "french"),
           chain=_chain("kyutai-tts-1.6b-en-fr", "TextToSpeechPipeline", temperature=0.6, guidance_scale=2.0)),
    _entry("kyutai-tts-0.75b-en", "English text to the codes of mimi-16, in the voice of a recording in front",
           "2509.08753", "tts-0.75b-en-public", model="speech:DelayedSpeech", config=SMALL_SPEAKING, tiny=TINY_GOING_ON,
           training_name="delayed-speech", parameters=785_829_888,  # of the inferred sizes
           languages=("english",),
           chain=_chain("kyutai-tts-0.75b-en", "TextToSpeechPipeline", "mimi-16", temperature=0.6,
                        guidance_scale=2.0)),
]
