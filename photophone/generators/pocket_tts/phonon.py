"""Phonon: a Pocket TTS made smaller, whose voices come as files.

Paper: CALM (arXiv 2509.06926), as Pocket TTS; there is none of its own. Code: transformers (Gradium Phonon TTS),
Apache-2.0. Weights: Apache-2.0 or CC BY-NC 4.0, see the entries. The tokens are those of
:class:`photophone.codecs.continuous_mimi.model.LatentDecoder`.

A voice is frames of an encoder that is not published. Nothing stands in front of it, and one vector, which stands for
the number of speakers and for the speed, is added to every frame of speech.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from photophone.generators.pocket_tts.model import PocketTTS
from photophone.loading.checkpoints import State, rename_keys

DURATION_SCALE, LONGEST_PERIOD = 1000.0, 10_000.0
"""Of the waves that stand for the speed."""
KEYS = [(r"^flow_lm\.condition_provider\.conditioners\.num_speakers\.embed\.", "speakers."),
        (r"^flow_lm\.condition_provider\.conditioners\.num_speakers\.output_proj\.", "speakers_proj."),
        (r"^flow_lm\.condition_provider\.conditioners\.duration_delta\.output_proj\.", "duration_proj.")]
TRAINED_ALONE = "flow_lm.flow.w_s_t.*"


class Phonon(PocketTTS):
    """Text ids, and perhaps a voice, to continuous tokens (B, N, D) of speech.

    Args:
        vocab_size, width, depth, num_heads, hidden, num_kv_heads, head_dim, token_dim, voice_dim, rotary_base,
            max_length, text_drop, voice_drop, end_weight, exact: of
            :class:`photophone.generators.pocket_tts.model.PocketTTS`.
        head: of the same; its norms of times are RMS norms.
        num_speakers, speaker_rows, speaker_width: how many speak, at most (less one), and the width that this is
            embedded by.
        duration_delta, duration_width: how much slower than usual is spoken, and the width of its waves.
        voice_frames: of the voice that came with the weights.
    """

    DROPPED_KEYS = (*PocketTTS.DROPPED_KEYS, TRAINED_ALONE)

    def __init__(self, vocab_size: int = 4000, width: int = 512, depth: int = 6, num_heads: int = 8,
                 hidden: int = 2048, num_kv_heads: int | None = None, head_dim: int | None = None, token_dim: int = 32,
                 voice_dim: int = 512, rotary_base: float = 10_000.0, head: dict | None = None, max_length: int = 4096,
                 text_drop: float = 0.2, voice_drop: float = 0.2, end_weight: float = 0.1, exact: bool = True,
                 num_speakers: int = 1, speaker_rows: int = 32, speaker_width: int = 16, duration_delta: float = 0.0,
                 duration_width: int = 128, voice_frames: int = 125) -> None:
        super().__init__(vocab_size, width, depth, num_heads, hidden, num_kv_heads, head_dim, token_dim=token_dim,
                         voice_dim=voice_dim, voice_start=False, rotary_base=rotary_base,
                         head={**(head or {}), "rms": True}, max_length=max_length, text_drop=text_drop,
                         voice_drop=voice_drop, end_weight=end_weight, exact=exact)
        if not 0 <= num_speakers < speaker_rows or duration_width < 4 or duration_width % 2:
            raise ValueError(f"num_speakers must lie in 0..{speaker_rows - 1} and duration_width be even and at least "
                             f"4, got {num_speakers} and {duration_width}")
        self.speakers = nn.Embedding(speaker_rows, speaker_width)
        self.speakers_proj = nn.Linear(speaker_width, width, bias=False)
        self.duration_proj = nn.Linear(duration_width, width, bias=False)
        self.register_buffer("default_voice", torch.zeros(voice_frames, voice_dim))

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments from the ``config.json`` of a release, which is one of transformers.

        Raises:
            ValueError: for settings that no published model has and ours neither.
        """
        head, rope = official["flow_head_config"], official.get("rope_parameters") or {}
        odd = {key: value for key, value in (("attention_bias", official.get("attention_bias", False)),
                                             ("rope_type", rope.get("rope_type", "default") != "default")) if value}
        if odd or official.get("hidden_act", "gelu") not in ("gelu", "gelu_pytorch_tanh"):
            raise ValueError(f"only the published kind of Phonon is built here, got {odd or official['hidden_act']}")
        names = {"width": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads",
                 "hidden": "intermediate_size", "num_kv_heads": "num_key_value_heads", "head_dim": "head_dim",
                 "token_dim": "latent_dim", "voice_dim": "audio_prompt_dim", "num_speakers": "num_speakers",
                 "speaker_rows": "num_speakers_vocab_size", "speaker_width": "num_speakers_embedding_dim",
                 "duration_delta": "duration_delta", "duration_width": "duration_delta_embedding_dim"}
        given = {ours: official[theirs] for ours, theirs in names.items() if theirs in official}
        return {**given, "vocab_size": official["vocab_size"] - 1, "rotary_base": float(rope.get("rope_theta", 1e4)),
                "exact": official.get("hidden_act", "gelu") == "gelu",
                "head": {"width": head["hidden_size"], "depth": head["num_hidden_layers"],
                         "kind": head.get("flow_type", "lsd")}}

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return PocketTTS.convert_state_dict(rename_keys(state, KEYS))

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """As in the base; no voice comes with the weights themselves."""
        voice = torch.zeros(config.get("voice_frames", 125), config.get("voice_dim", 512))
        return {"default_voice": voice} | super().prepare_state_dict(state, config)

    def condition_row(self) -> Tensor:
        """What is added to every frame of speech, (C,)."""
        config, weight = self.config, self.duration_proj.weight
        half = config.duration_width // 2
        exponents = torch.arange(half, device=weight.device) / (half - 1)
        phases = DURATION_SCALE * config.duration_delta / LONGEST_PERIOD**exponents
        waves = torch.cat([phases.cos(), phases.sin()]).to(weight.dtype)
        return self.speakers_proj(self.speakers.weight[config.num_speakers]) + self.duration_proj(waves)

    def embed_frames(self, frames: Tensor) -> Tensor:
        """Normalised frames (B, N, D) to positions (B, N, C)."""
        return super().embed_frames(frames) + self.condition_row()

    @property
    def has_voice(self) -> bool:
        """Whether a voice came with the weights."""
        return bool(self.default_voice.any())
