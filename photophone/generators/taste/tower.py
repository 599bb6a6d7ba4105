"""TASTE's tokenizer: speech and its words to one unit for each word, of four codes.

Paper: TASTE (arXiv 2504.07053). Origin: github.com/mtkresearch/TASTE-SpokenLM, no licence at its root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from photophone.core.model import Model
from photophone.core.noise import Noise
from photophone.generators.taste.config import tower_config
from photophone.generators.taste.quantizer import WordCodes, WordQuantizer, convert_quantizer
from photophone.generators.taste.whisper import WhisperDecoder, WhisperEncoder, convert_whisper_keys
from photophone.layers.lengths import length_mask
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

PREFIX = [50258, 50259, 50360, 50364]
"""Whisper's ids in front of a text: begin, English, transcribe, no times."""


class TasteTower(OriginalCheckpoint, Model):
    """Mel frames of speech and the ids of its words to a unit for each id, the same within a word.

    Args:
        vocab_size, prefix, end: ids of Whisper; those around a text.
        num_mels, max_frames, max_text: of Whisper.
        width, depth, decoder_depth, num_heads, hidden: of the encoder and of the aligner behind it.
        value_layer: see :class:`photophone.generators.taste.whisper.WhisperEncoder`.
        code_dim, codebook_size, num_levels, decay: of the quantizer.
        decoder_hidden: width of the aligner's feed-forward, ``hidden`` when None.
    """

    DROPPED_KEYS = ("*vq.rvq.mlps.*", "*_codebook.initted", "speech_decoder.*", "spoken_lm.*")
    """Networks of the vendored quantizer that no mode of the model runs, and the other parts of TASTE."""

    def __init__(self, vocab_size: int = 51866, prefix: list[int] = PREFIX, end: int = 50257, num_mels: int = 128,
                 max_frames: int = 1500, max_text: int = 448, width: int = 1280, depth: int = 32,
                 decoder_depth: int = 2, num_heads: int = 20, hidden: int = 5120, value_layer: int = 6,
                 code_dim: int = 256, codebook_size: int = 512, num_levels: int = 4, decay: float = 0.99,
                 decoder_hidden: int | None = None) -> None:
        super().__init__()
        self.encoder = WhisperEncoder(num_mels, max_frames, width, depth, num_heads, hidden, value_layer)
        self.aligner = WhisperDecoder(vocab_size, max_text, width, decoder_depth, num_heads, decoder_hidden or hidden)
        self.quantizer = WordQuantizer(width, code_dim, codebook_size, num_levels, decay)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`photophone.generators.taste.config.tower_config`."""
        return tower_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys of the tower, with or without its prefix, to ours."""
        state = rename_keys(state, [(r"^audio_tower\.", "")])
        joint = r"^audio_joint_encoder_segmenter\."
        state = rename_keys(convert_quantizer(state, "vq.rvq.", "quantizer."), [
            (joint + r"audio_encoder\.encoder\.", "encoder."), (joint + r"audio_segmenter\.decoder\.", "aligner.")])
        return convert_whisper_keys(state)

    def align(self, keys: Tensor, values: Tensor, ids: Tensor) -> Tensor:
        """States (B, P + N + 1, width) of the prefix, ids Long (B, N) and the end, which stands behind the padding."""
        front, end = ids.new_tensor(self.config.prefix), ids.new_tensor([self.config.end])
        given = torch.cat([front.expand(len(ids), -1), ids, end.expand(len(ids), -1)], dim=1)
        if given.shape[1] > self.config.max_text:
            raise ValueError(f"a text of {ids.shape[1]} ids is too long: with its ends it may have "
                             f"{self.config.max_text}")
        return self.aligner(given, keys, values)

    def word_values(self, mel: Tensor, ids: Tensor, lengths: Tensor, words: Tensor) -> Tensor:
        """Values (B, N, width) before the quantizer: the mean over each word, zero where a row has ended.

        Args:
            mel: (B, T, num_mels), T at most twice ``max_frames``.
            ids, words: Long (B, N), ids and the numbers of their words.
            lengths: Long (B,), ids of each row.

        Raises:
            ValueError: speech or a text that is too long.
        """
        if mel.shape[1] > 2 * self.config.max_frames:
            raise ValueError(f"speech has {mel.shape[1]} frames, at most {2 * self.config.max_frames} fit")
        hidden = self.align(*self.encoder(mel), ids)[:, len(self.config.prefix):-1]
        mask = length_mask(lengths, ids.shape[1])
        same = ((words[:, :, None] == words[:, None]) & mask[:, None] & mask[:, :, None]).to(hidden.dtype)
        return same @ hidden / same.sum(2, keepdim=True).clamp(min=1)

    def forward(self, mel: Tensor, ids: Tensor, lengths: Tensor, words: Tensor, noise: Noise | None = None
                ) -> WordCodes:
        """Units and codes of each id, see :meth:`word_values`."""
        values = self.word_values(mel, ids, lengths, words)
        return self.quantizer(values, length_mask(lengths, ids.shape[1]), noise)
