"""Prepared speech as the tokens of a codec, for the training of generators."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.tokens import Tokens
from photophone.data.speech import SpeechDataset


@torch.no_grad()
def tokens_of(data: SpeechDataset, codec: StreamCodec, batch_size: int = 16) -> Tokens:
    """Tokens (clips, N, D) with lengths, clips of like length encoded together.

    Raises:
        ValueError: the data is at another rate than the codec.
    """
    if codec.sample_rate != data.sample_rate:
        raise ValueError(f"the data is at {data.sample_rate} Hz, the codec at {codec.sample_rate} Hz; prepare the "
                         f"recordings with --sample-rate {codec.sample_rate}")
    rows: list[torch.Tensor] = [torch.empty(0)] * len(data)
    for part in tqdm(data.lengths.argsort().split(batch_size), unit="batch", dynamic_ncols=True):
        clips = [data.clip(int(index)) for index in part]
        lengths = torch.tensor([len(clip) for clip in clips])
        tokens = codec.encode(pad_sequence(clips, batch_first=True)[:, None], lengths)
        for index, values, count in zip(part.tolist(), tokens.values.cpu(), tokens.lengths.tolist()):
            rows[index] = values[:count]
    return Tokens(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))
