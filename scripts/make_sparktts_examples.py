"""Clips as prompts and answers of Spark-TTS, in the codes of a BiCodec: what train_tts.py trains on."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from photophone.codecs.bicodec.model import BiCodec
from photophone.core.command import run_command
from photophone.core.files import atomic_write
from photophone.data.spark_examples import spark_clips, train_vocabulary, word_spans
from photophone.data.speech import SpeechDataset
from photophone.data.speech_examples import write_examples
from photophone.text.sparktts import GENDERS
from photophone.text.voxcpm import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared speech with phonemes, times and pitch")
    parser.add_argument("-c", "--codec", required=True, help="folder of the codec")
    parser.add_argument("-v", "--vocabulary", type=Path, required=True, help="its folder; learned of the texts if it "
                        "is not there")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--size", type=int, default=640, help="bytes and pairs of a vocabulary that is learned")
    parser.add_argument("--gender", choices=GENDERS, default="female", help="of the voices (default female)")
    arguments = parser.parse_args()
    data, codec = SpeechDataset(arguments.data), BiCodec.from_pretrained(arguments.codec).eval()
    if not arguments.vocabulary.is_dir():
        train_vocabulary((fields["text"] for fields in data.fields), arguments.size, codec.config.num_codes,
                         codec.speaker_encoder.quantizer.codebook_size).save_pretrained(arguments.vocabulary)
    tokenizer = load_tokenizer(arguments.vocabulary)
    with torch.no_grad():
        codes = [codec.encode(data.clip(index)[None, None]).values[0].tolist()
                 for index in tqdm(range(len(data)), unit="clip", dynamic_ncols=True)]
    prompts, answers, guides = [], [], []
    for clip, fields in zip(spark_clips(data.fields, codes, codec.num_voice_tokens, arguments.gender), data.fields):
        times = (codec.hop_length * np.arange(len(clip.speech)) + codec.frame_samples / 2) / codec.sample_rate
        for prompt, told in clip.examples():
            read = tokenizer(prompt, return_offsets_mapping=True)
            written = tokenizer(told)["input_ids"]
            prompts.append(torch.tensor(read["input_ids"]))
            answers.append(torch.tensor(written))
            guide = np.zeros((len(written), 2), dtype=np.int32)
            spans = word_spans(fields, read["offset_mapping"], prompt.index(clip.text), times)
            if spans is not None:
                guide[-1 - len(spans):-1] = spans
            guides.append(torch.from_numpy(guide))
    write_examples(arguments.output, prompts, answers)
    with atomic_write(arguments.output.with_suffix(".guides.safetensors")) as partial:
        save_file({"spans": torch.cat(guides)}, partial)
    print(f"{len(prompts)} examples in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
