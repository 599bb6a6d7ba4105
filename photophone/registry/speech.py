"""photophone's own speech models: the data of the registry."""

from __future__ import annotations

from photophone.registry.entry import OWN, Chain, ModelEntry

CODEC = {"kind": "codec", "target": "photophone.codecs.stream_codec:StreamCodec",
         "paper": "in the line of arXiv 2306.00814 and 2509.24650", **OWN,
         "tiny": {"frame_length": 40, "window": 160, "num_mels": 20, "latent_dim": 6, "encoder_width": 16,
                  "encoder_depth": 1, "decoder_depth": 2, "width": 32, "hidden": 48}}
VOCODER = {"sample_rate": 16000, "n_fft": 1024, "hop_length": 256, "num_mels": 80, "width": 256, "hidden": 640,
           "depth": 6}
ENTRIES = [
    ModelEntry("photophone/tiny-speech", "pipeline", "photophone.pipelines.text_to_speech:TextToSpeechPipeline",
               "English text to 16 kHz speech of one synthetic voice, streaming, 7.9 million parameters",
               "in the line of arXiv 2502.03930", "Apache-2.0", "Apache-2.0; training data in its card",
               folder="tiny-speech",
               chain=Chain({}, {"num_inference_steps": 8, "guidance_scale": 1.5, "temperature": 1.0})),
    ModelEntry("photophone/tiny-vocoder", "codec", "photophone.codecs.vocos:Vocos",
               "vocoder of 80 mel bands at 62.5 frames a second, 16 kHz, 2.4 million parameters", "2306.00814",
               "Apache-2.0", "Apache-2.0; training data in its card", config=VOCODER, folder="tiny-vocoder",
               tiny={"n_fft": 64, "hop_length": 16, "num_mels": 8, "width": 16, "hidden": 24, "depth": 2}),
    ModelEntry("stream-codec", summary="causal streaming codec, 16 kHz, 40 continuous tokens a second of 24 channels",
               **CODEC),
    ModelEntry("stream-codec-fsq", summary="its discrete sibling: one FSQ codebook of 5,000 codes",
               **{**CODEC, "tiny": {**CODEC["tiny"], "latent_dim": 5}},
               config={"latent_dim": 5, "quantizer": "fsq", "quantizer_config": {"levels": [8, 5, 5, 5, 5]}}),
    ModelEntry("stream-codec-vq", summary="its discrete sibling: one learned codebook of 4,096 codes",
               config={"quantizer": "vq", "quantizer_config": {"codebook_size": 4096}}, **CODEC),
]
