"""Encode speech once, for the training of generators.

With --codec: a prepared file with a codec of ours, for aligned speech. With --model: recordings with texts (a folder, a
parquet file or a prepared file) as examples of a published CosyVoice, Spark-TTS or VoxCPM.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.command import run_command
from photophone.core.files import check_target
from photophone.data.speech import SpeechDataset
from photophone.loading.auto import read_settings
from photophone.training.speech_shards import recordings, shard_maker, write_shard
from photophone.training.tokenizing import tokens_of

TOLD = 3
"""Recordings that were left out and are named."""


def encode(arguments: argparse.Namespace) -> None:
    """Tokens of a prepared file."""
    data = SpeechDataset(arguments.data)
    codec = StreamCodec.from_pretrained(arguments.codec).to(arguments.device).eval()
    tokens = tokens_of(data, codec, arguments.batch_size)
    tokens.save(arguments.output, overwrite=arguments.overwrite)
    print(f"{int(tokens.lengths.sum())} tokens of {len(tokens)} clips in {arguments.output}")


def write_published(arguments: argparse.Namespace) -> None:
    """Examples of a published model."""
    if not arguments.data.exists():
        raise ValueError(f"{arguments.data} does not exist; give a folder of recordings, a parquet or a prepared file")
    pairs = [text.partition("=") for text in arguments.file]
    if any(not separator for _, separator, _ in pairs):
        raise ValueError(f"--file takes PART=PATH, such as bicodec=folder, got {' '.join(arguments.file)}")
    maker = shard_maker(arguments.model, arguments.original, {key: value for key, _, value in pairs},
                        read_settings(arguments.settings))
    clips = tqdm(recordings(arguments.data, maker.sample_rate), unit="clip", dynamic_ncols=True)
    count, tokens, left_out = write_shard(maker, clips, arguments.output)
    for reason in left_out[:TOLD]:
        print(reason)
    print(f"{tokens} tokens of {count} clips in {arguments.output}, {len(left_out)} left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared .safetensors of speech; with --model also a folder")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("-c", "--codec", type=Path, help="folder of a saved codec")
    kind.add_argument("-m", "--model", help="name of the registry, such as voxcpm-0.5b")
    parser.add_argument("--original", help="published folder or hub id of the model (default: the registry's hub id)")
    parser.add_argument("--file", nargs="*", default=[], metavar="PART=PATH", help="parts that lie elsewhere")
    parser.add_argument("--settings", help="JSON: sizes of the model's parts that are not the published ones")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    parser.add_argument("--batch-size", type=int, default=16, help="of --codec")
    parser.add_argument("--device", default="cpu", help="of --codec")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    check_target(arguments.output, arguments.overwrite)
    if arguments.model is None:
        encode(arguments)
    else:
        write_published(arguments)


if __name__ == "__main__":
    run_command(main)
