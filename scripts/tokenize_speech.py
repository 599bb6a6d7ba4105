"""Encode a prepared file of speech with a codec, once, for the training of generators."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.command import run_command
from photophone.core.files import check_target
from photophone.core.tokens import Tokens
from photophone.data.speech import SpeechDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared .safetensors of speech")
    parser.add_argument("-c", "--codec", type=Path, required=True, help="folder of a saved codec")
    parser.add_argument("-o", "--output", type=Path, required=True, help="token file to write")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    check_target(arguments.output, arguments.overwrite)
    data = SpeechDataset(arguments.data)
    codec = StreamCodec.from_pretrained(arguments.codec).to(arguments.device).eval()
    if codec.sample_rate != data.sample_rate:
        raise ValueError(f"the data is at {data.sample_rate} Hz, the codec at {codec.sample_rate} Hz")
    order = data.lengths.argsort()
    rows: list[torch.Tensor] = [torch.empty(0)] * len(data)
    for part in tqdm(order.split(arguments.batch_size), unit="batch"):
        clips = [data.clip(int(i)) for i in part]
        lengths = torch.tensor([len(clip) for clip in clips])
        tokens = codec.encode(pad_sequence(clips, batch_first=True)[:, None], lengths)
        for i, values, count in zip(part.tolist(), tokens.values.cpu(), tokens.lengths.tolist()):
            rows[i] = values[:count]
    tokens = Tokens(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))
    tokens.save(arguments.output, overwrite=arguments.overwrite)
    print(f"{sum(map(len, rows))} tokens of {len(rows)} clips in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
