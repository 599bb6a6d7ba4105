"""CAM++ (arXiv 2303.00332): the vector of a speaker, from the ONNX file of a CosyVoice release.

The network runs in onnxruntime, the extra ``photophone[cosyvoice]``: its file holds no names that tell the layers.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

SAMPLE_RATE = 16000
BANDS = 80
FILE = "campplus.onnx"
LEAST_SAMPLES = 400
"""Of one frame."""


class CAMPlusSpeaker:
    """Speech (T,) at 16 kHz to the vector of its speaker, float32 (D,), D = 192 in the published file.

    Args:
        path: the ONNX file.

    Raises:
        ValueError: the file is missing or no such network, or onnxruntime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"no such file: {path}; it is {FILE} of a CosyVoice release")
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("the vectors of speakers need onnxruntime: pip install 'photophone[cosyvoice]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # what onnxruntime raises has no common class
            raise ValueError(f"{path} is no ONNX network that can run: {str(error).partition(chr(10))[0]}") from error

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """From a folder that :meth:`save_pretrained` wrote."""
        return cls(Path(folder) / FILE)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the file into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, Path(folder) / FILE)

    def __call__(self, audio: Tensor) -> Tensor:
        """The vector, on the CPU.

        Raises:
            ValueError: less than a frame of speech.
        """
        from torchaudio.compliance.kaldi import fbank

        if audio.ndim != 1 or len(audio) < LEAST_SAMPLES:
            raise ValueError(f"a voice must be (T,) with at least {LEAST_SAMPLES} samples, got {tuple(audio.shape)}")
        frames = fbank(audio[None].float().cpu(), num_mel_bins=BANDS, dither=0.0, sample_frequency=SAMPLE_RATE)
        frames = frames - frames.mean(dim=0, keepdim=True)
        (made, *_) = self.session.run(None, {self.session.get_inputs()[0].name: frames[None].numpy()})
        return torch.from_numpy(made).flatten().float()
