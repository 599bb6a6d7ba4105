"""Put a trained codec and speech generator together into a pipeline folder with 16-bit weights, as in the wheel."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

CARD = """---
license: apache-2.0
language: en
pipeline_tag: text-to-speech
---
# {name}

English text to speech at {rate} Hz with {parameters:.1f} million parameters ({megabytes:.1f} MB in 16 bits).

**The voice is synthetic.** It was learned from sentences spoken by the voice "heart" of the package hibari-tts 0.2.1
(Apache-2.0); no person's recordings were used for it. The codec was also trained on recordings.

- Generator: `SpeechFlowAR`, phonemes to continuous tokens, patch by patch.
- Codec: `StreamCodec`, {frames:g} tokens a second of {dim} channels.
- Revision: {revision}

Sources and licences of the training data, the numbers and the limits: `docs/speech.md` and `docs/tiny-speech.md`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec", type=Path, required=True, help="export/ of the codec's run")
    parser.add_argument("--generator", type=Path, required=True, help="export/ of the generator's run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", default="photophone/tiny-speech", help="what the pipeline is called")
    parser.add_argument("--revision", required=True, help="version of these weights, such as 1.0")
    arguments = parser.parse_args()
    pipeline = TextToSpeechPipeline(SpeechFlowAR.from_pretrained(arguments.generator, dtype=torch.float16),
                                    StreamCodec.from_pretrained(arguments.codec, dtype=torch.float16))
    codec, generator = pipeline.codec, pipeline.speech_generator
    if codec.token_dim != generator.config.token_dim:
        raise ValueError(f"the generator makes tokens of {generator.config.token_dim} channels, the codec reads "
                         f"{codec.token_dim}")
    for model in (codec, generator):
        model.register_to_config(_name_or_path=arguments.name)  # else the folder of the training run
    pipeline.save_pretrained(arguments.output)
    (arguments.output / "revision.txt").write_text(arguments.revision + "\n")
    megabytes = sum(file.stat().st_size for file in arguments.output.rglob("*.safetensors")) / 1e6
    parameters = sum(p.numel() for model in (codec, generator) for p in model.parameters()) / 1e6
    card = arguments.output / "README.md"
    if not card.exists():  # a card that was written by hand stays
        card.write_text(CARD.format(name=arguments.name, rate=codec.sample_rate, parameters=parameters,
                                    megabytes=megabytes, frames=codec.frame_rate, dim=codec.token_dim,
                                    revision=arguments.revision), encoding="utf-8")
    print(f"{arguments.output}: {megabytes:.2f} MB of weights")


if __name__ == "__main__":
    main()
