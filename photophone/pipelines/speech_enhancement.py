"""Noisy recordings to clean ones, of any length and rate, mono or stereo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from photophone.core.files import check_target
from photophone.core.limits import MAX_AUDIO_FRAMES, MAX_CHANNELS
from photophone.data.audio_checks import KEPT_SUBTYPES, WRITE_FORMATS, check_rate
from photophone.data.audio_levels import Levels
from photophone.data.audio_stream import ArrayReader, AudioReader, overlapping
from photophone.data.audio_write import AudioWriter, check_format, write_pieces
from photophone.data.resampling import reach_seconds, resample_audio
from photophone.decoding.loop import DecodingStopped
from photophone.generators.enhancement import LEVEL, Enhancer
from photophone.generators.gense.enhancer import GenSEEnhancer
from photophone.generators.llase_g1.enhancer import LLaSEEnhancer
from photophone.generators.sampler import check_option
from photophone.loading.chains import check_chain, find_sources
from photophone.loading.registry import load_original
from photophone.pipelines.base import Pipeline, StepCallback
from photophone.pipelines.live_enhancement import LiveSpeech
from photophone.pipelines.output import MediaOutput, file_with_facts

ENHANCERS: dict[str, type[LLaSEEnhancer | GenSEEnhancer]] = {"llase-g1": LLaSEEnhancer, "gense": GenSEEnhancer}
"""What is made of the checkpoints of a registered chain."""
LIVE_MODEL = "photophone/tiny-enhance-live"
"""The built-in model that streams."""
PIECE_SECONDS = 20
ALIGNED_SECONDS = 2
"""Pieces begin at multiples of so much time, which is a whole number of frames at every rate."""
LARGEST_GAIN = 100.0
QUIETEST = 0.1
"""Stretches of a recording are brought to one level where they are no quieter than so much of the whole."""
HIGH_BAND_SHARE = 0.5
"""Above the model's band a recording is weakened as the upper part of the band is, from this share of it on."""


@dataclass
class EnhancedSpeech(MediaOutput):
    """Clean recordings and what is needed to make them again.

    Attributes:
        audio: list of float32 arrays (T,), or (2, T) for stereo, as long as what was given.
        sample_rate: in Hz, as given.
        settings: ``mix``.
        model, revision, weights_licence: of the weights.
    """

    SUFFIXES = tuple(WRITE_FORMATS)
    NOUN = "recordings"

    audio: list[np.ndarray]
    sample_rate: int

    def names(self) -> list[str]:
        """Their numbers."""
        return [f"{index:03d}" for index in range(len(self.audio))]

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a file says; ``scaled_by`` where 16 bits do not hold the peaks."""
        scale = full_scale(self.audio[row])
        return {**self.settings, **({} if scale == 1 else {"scaled_by": round(scale, 6)}), **self.origin}

    def write(self, row: int, file: Path, overwrite: bool) -> None:
        """An audio file in the format of its suffix, scaled down where peaks over 1 would be cut."""
        channels = np.atleast_2d(self.audio[row]) * np.float32(full_scale(self.audio[row]))
        with file_with_facts(file, self.facts(row), overwrite=overwrite) as partial, open(partial, "wb+", 0) as sound:
            suffix = check_format(file, self.sample_rate, len(channels))
            with closing(AudioWriter(sound, suffix, self.sample_rate, len(channels), name=str(file))) as writer:
                writer.write(channels)


@dataclass
class EnhancedFile:
    """What was written.

    Args:
        levels: of the source.
        scaled_by: 1, or what brought peaks over full scale into a format that has none.
    """

    levels: Levels
    scaled_by: float = 1.0


class SpeechEnhancementPipeline(Pipeline):
    """Makes noisy speech clean.

    Recordings are resampled to the model's rate, brought to one level, enhanced in pieces that overlap by what the
    model sees, and brought back. What lies above the model's band is weakened as the upper half of the band is.
    The level is that of the speech around a time: clicks and bangs do not change it, and quiet speakers of a long
    recording are heard as loud ones are. Enhancers that stream hear a recording from front to back instead, as
    :meth:`stream` does.

    Args:
        enhancer: any :class:`photophone.Enhancer`. Where pieces do not equal the whole, as with
            :class:`photophone.LLaSEEnhancer`, neighbours are blended.
        published: ``model`` and ``revision`` of published weights.
    """

    def __init__(self, enhancer: Enhancer,
                 published: dict[str, str | None] | None = None) -> None:
        super().__init__()
        self.register_modules(enhancer=enhancer)
        self.register_to_config(published=published)

    @classmethod
    def from_original(cls, name: str, *, revision: str | None = None, cache_dir: str | Path | None = None,
                      local_files_only: bool = False, configs: dict[str, dict[str, Any]] | None = None,
                      **files: Any) -> Self:
        """A published enhancer of several networks, from their official checkpoints.

        Args:
            name: a key of ENHANCERS.
            revision, cache_dir, local_files_only: of hub downloads.
            configs: settings that differ from the registry's, by the names of the files.
            **files: checkpoints by the names of the registry's chain (``wavlm``, ``llase`` and ``codec``; or
                ``n2s`` and ``s2s``, which hold the units and the codec too), see
                :meth:`photophone.ClassToImagePipeline.from_original`.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that are missing or do not fit.
        """
        chain = check_chain(cls.__name__, name, files)
        sources, commit = find_sources(chain, files, revision=revision, cache_dir=cache_dir,
                                       local_files_only=local_files_only)
        parts = {}
        for key, part in chain.files.items():
            own = chain.tokenizer_config if key == chain.tokenizer[0] else {}
            parts[key] = load_original(part, sources[key], **{**own, **(configs or {}).get(key, {})})
        return cls(ENHANCERS[name].from_parts(**parts), published={"model": name, "revision": commit})

    @property
    def mix(self) -> float:
        """Share of the clean speech in the output that the weights are best with: 1 unless their config says it."""
        return self.enhancer.config.get("mix", 1.0)

    def chosen_mix(self, mix: float | None) -> float:
        """A share as given, checked, or that of the weights."""
        check_mix(mix)
        return self.mix if mix is None else mix

    @torch.no_grad()
    def __call__(self, audio: Any, sampling_rate: int, *, mix: float | None = None,
                 callback_on_step_end: StepCallback | None = None, return_dict: bool = True) -> EnhancedSpeech | tuple:
        """Enhance recordings.

        Args:
            audio: float array or tensor (T,) or (C, T) with C at most 2, nominally in [-1, 1]; or a list of such. Peaks
                over 1 are kept: what is made stays within the largest of 1 and the peak.
            sampling_rate: of all of them, in Hz.
            mix: share of the clean speech in the output, 0 to 1; the rest is the recording itself. None: what the
                weights are best with, :attr:`mix`.
            callback_on_step_end: ``callback(pipeline, step, total, {})`` after each piece; set ``pipeline._interrupt``
                to stop.
            return_dict: False gives a tuple with the recordings alone.

        Raises:
            ValueError: an argument outside its limits, another shape, no samples, NaN, infinity or samples that are
                no sound, see ``MAX_SAMPLE`` of ``photophone.core.limits``.
            DecodingStopped: the callback set ``_interrupt``.
        """
        mix = self.chosen_mix(mix)
        given = list(audio) if isinstance(audio, list | tuple) else [audio]
        check_sampling_rate(sampling_rate)
        arrays = [as_channels(recording) for recording in given]
        readers = [ArrayReader(array, int(sampling_rate)) for array in arrays]
        levels = [reader.levels() for reader in readers]
        total = sum(-(-level.frames // (PIECE_SECONDS * reader.sample_rate)) for level, reader in zip(levels, readers))
        made, step = [], 0
        with self.watch(callback_on_step_end) as on_step:
            for recording, reader, level in zip(given, readers, levels):
                pieces = []
                for piece in self.pieces(reader, level, mix):
                    pieces.append(piece)
                    step += 1
                    if on_step(step, total):
                        raise DecodingStopped(f"stopped by the callback after piece {step} of {total}")
                whole = np.concatenate(pieces, axis=1)
                made.append(whole if np.ndim(recording) == 2 else whole[0])
        if not return_dict:
            return (made,)
        return EnhancedSpeech(made, int(sampling_rate), settings={"mix": mix}, **self.source,
                              weights_licence=self.weights_licence)

    def enhance_file(self, source: str | Path | bytes | AudioReader, target: Any, *, mix: float | None = None,
                     overwrite: bool = False) -> EnhancedFile:
        """Enhance a file into another in constant memory; nothing is written when the source is refused.

        Peaks over 1 stay in WAV files of floats; for other formats all of it is scaled down so that they fit.

        Args:
            source: path, bytes, or an opened reader.
            target: path of a file of one of ``photophone.data.audio_checks.WRITE_FORMATS``, or a ``BytesIO`` for WAV.
            mix: see :meth:`__call__`.
            overwrite: whether a target that is there may be replaced.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the source cannot be read, or the target is the source.
            FileExistsError: the target is there, and ``overwrite`` is not set.
        """
        mix = self.chosen_mix(mix)
        reader = source if isinstance(source, AudioReader) else AudioReader(source)
        if isinstance(target, str | Path) and not isinstance(reader.source, bytes) and (
                Path(target).resolve() == Path(reader.source).resolve()):
            raise ValueError(f"{target} is the recording itself; give another name")
        if isinstance(target, str | Path):
            check_target(target, overwrite)
        levels = reader.levels()
        suffix = Path(target).suffix.lower() if isinstance(target, str | Path) else ".wav"
        floats = reader.subtype == "FLOAT" and "FLOAT" in KEPT_SUBTYPES.get(suffix, ())
        scale = 1.0 if floats else 1 / levels.limit
        pieces = self.pieces(reader, levels, mix)
        with torch.no_grad():
            write_pieces(target, pieces if scale == 1 else (scale * piece for piece in pieces), reader.sample_rate,
                         reader.channels, reader.subtype, overwrite=overwrite)
        return EnhancedFile(levels, scale)

    def stream(self, chunks: Iterable[Any], sampling_rate: int, *, mix: float | None = None) -> Iterator[np.ndarray]:
        """Enhance a recording while it comes in, with an enhancer that streams, such as that of
        ``photophone/tiny-enhance-live``.

        What comes out, put together, does not depend on how the recording is cut into chunks, but for rounding, is as
        long as it, and is what :meth:`__call__` makes of the whole. A chunk costs as much after a day as at first. The
        arguments are checked at once. Several streams may go on at a time, in one thread.

        Args:
            chunks: float arrays or tensors (T,), or (C, T) with C at most 2, T from 0 on; all of one kind.
            sampling_rate: of all of them, in Hz.
            mix: see :meth:`__call__`.

        Yields:
            for each chunk what is ready then, float32 (n,) or (C, n), n from 0 on, and at the end the rest.

        Raises:
            ValueError: an enhancer that needs the whole recording; a wrong argument or chunk.
        """
        mix = self.chosen_mix(mix)
        check_sampling_rate(sampling_rate)
        self._check_streams()
        return self._stream(chunks, int(sampling_rate), mix)

    def _check_streams(self) -> None:
        if not self.enhancer.streams:
            raise ValueError(f"{type(self.enhancer).__name__} needs the whole recording; take a model that streams, "
                             f"such as {LIVE_MODEL}")

    def _stream(self, chunks: Iterable[Any], sample_rate: int, mix: float) -> Iterator[np.ndarray]:
        live, shape = None, None
        for chunk in chunks:
            array = as_channels(chunk, empty=True)
            if live is None:
                live, shape = LiveSpeech(self.enhancer, sample_rate, len(array), mix), np.ndim(chunk)
            if np.ndim(chunk) != shape:
                raise ValueError(f"a chunk has {np.ndim(chunk)} axes, those before it had {shape}")
            made = live.push(array)
            yield made if shape == 2 else made[0]
        if live is not None:
            made = live.finish()
            yield made if shape == 2 else made[0]

    def live(self, sampling_rate: int, channels: int = 1, *, mix: float | None = None) -> LiveSpeech:
        """What :meth:`stream` runs, for callers that push chunks themselves.

        Raises:
            ValueError: see :meth:`stream`.
        """
        mix = self.chosen_mix(mix)
        check_sampling_rate(sampling_rate)
        self._check_streams()
        if channels not in range(1, MAX_CHANNELS + 1):
            raise ValueError(f"channels must be 1 to {MAX_CHANNELS}, got {channels!r}")
        return LiveSpeech(self.enhancer, int(sampling_rate), channels, mix)

    def pieces(self, reader: AudioReader | ArrayReader, levels: Levels, mix: float) -> Iterator[np.ndarray]:
        """Enhanced float32 (C, n) pieces, which together are as long as the recording."""
        if self.enhancer.streams:
            yield from self._stream(reader.blocks(PIECE_SECONDS * reader.sample_rate), reader.sample_rate, mix)
            return
        rate, own_rate = reader.sample_rate, self.enhancer.sample_rate
        reach = self.enhancer.reach / own_rate + 2 * reach_seconds(rate, own_rate) * (rate != own_rate)
        margin = ALIGNED_SECONDS * math.ceil(reach / ALIGNED_SECONDS) * rate
        gains = level_gains(levels)
        blocks, fade = reader.blocks(rate), round(self.enhancer.fade_seconds * rate)
        tail, begin = torch.zeros(1, 0), 0
        for before, count, piece in overlapping(blocks, levels.frames, PIECE_SECONDS * rate, margin):
            audio = torch.from_numpy(piece - levels.offset)
            inner, last = audio[:, before:before + count], before + count
            start, begin = (begin - before) / rate, begin + count
            if not gains.any() or not inner.abs().max():  # silence stays silence
                tail = torch.zeros(1, 0)
                yield np.zeros(inner.shape, np.float32)
                continue
            whole = self.enhanced(audio, rate, gains, start)
            made, tail = blend(tail, whole[:, before:last]), whole[:, last:last + fade]
            yield (mix * made + (1 - mix) * inner).clamp(-levels.limit, levels.limit).numpy()

    def enhanced(self, audio: Tensor, sample_rate: int, gains: np.ndarray, start: float) -> Tensor:
        """Float (C, T) at any rate, from ``start`` seconds on, enhanced at the model's rate and at the level that
        ``gains`` of each second bring it to."""
        own_rate = self.enhancer.sample_rate
        narrow = resample_audio(audio, sample_rate, own_rate)
        gain = gain_curve(gains, start, narrow.shape[-1], own_rate)
        made = self.enhancer.enhance((gain * narrow)[:, None])[:, 0].float().cpu() / gain
        wide = fit(resample_audio(made, own_rate, sample_rate), audio.shape[-1])
        if sample_rate <= own_rate:
            return wide
        above = audio - fit(resample_audio(narrow, own_rate, sample_rate), audio.shape[-1])
        return wide + above * upper_gain(narrow, made, audio.shape[-1])


def level_gains(levels: Levels) -> np.ndarray:
    """What brings the speech of each second to ``LEVEL``, float64 (N,); all 0 for silence."""
    if not levels.rms:
        return np.zeros(len(levels.powers))
    return (LEVEL / levels.rms_at(QUIETEST)).clip(max=LARGEST_GAIN)


def gain_curve(gains: np.ndarray, start: float, count: int, sample_rate: int) -> Tensor:
    """Gains of seconds as a smooth curve, float32 (count,) from ``start`` seconds on, or (1,) where they are equal."""
    if gains.min() == gains.max():
        return torch.tensor([gains[0]], dtype=torch.float32)
    times = start + np.arange(count) / sample_rate
    curve = np.interp(times, np.arange(len(gains)) + 0.5, np.log(gains))
    return torch.from_numpy(np.exp(curve).astype(np.float32))


def full_scale(audio: np.ndarray) -> float:
    """What scales samples so that none lies outside [-1, 1]; 1 where none does."""
    return 1 / max(1.0, float(np.abs(audio).max(initial=0)))


def upper_gain(noisy: Tensor, made: Tensor, length: int, n_fft: int = 512, hop: int = 160) -> Tensor:
    """How much the upper half of the band was weakened over time, 0 to 1, (C, T) pairs to (C, length)."""
    window, first = torch.hann_window(n_fft), round(HIGH_BAND_SHARE * (n_fft // 2))
    energies = [torch.stft(audio, n_fft, hop, window=window, pad_mode="constant", return_complex=True)[:, first:]
                .abs().square().sum(1) for audio in (noisy, made)]  # (C, F)
    gains = (energies[1] / energies[0].clamp(min=1e-12)).sqrt().clamp(max=1)
    smooth = functional.avg_pool1d(gains[:, None], 3, 1, 1, count_include_pad=False)
    return functional.interpolate(smooth, size=length, mode="linear", align_corners=True)[:, 0]


def blend(tail: Tensor, piece: Tensor) -> Tensor:
    """A piece (C, n) that begins with what its neighbour made of the same time (C, k), and leaves it over that time."""
    size = min(tail.shape[1], piece.shape[1])
    if not size:
        return piece
    share = torch.linspace(0, 1, size + 2)[1:-1]
    return torch.cat([(1 - share) * tail[:, :size] + share * piece[:, :size], piece[:, size:]], dim=1)


def fit(audio: Tensor, length: int) -> Tensor:
    """(C, T) cut or filled with zeros to ``length``: resampling there and back may differ by a sample."""
    return functional.pad(audio[:, :length], (0, max(0, length - audio.shape[-1])))


def check_mix(mix: Any) -> None:
    """Refuse a share outside 0 to 1; None is none."""
    check_option("mix", mix, kind=float, optional=True, low=0, high=1, choices=None)


def check_sampling_rate(sampling_rate: Any) -> None:
    """Refuse what is no rate, or one outside the limits."""
    if isinstance(sampling_rate, bool) or not isinstance(sampling_rate, int | np.integer):
        raise ValueError(f"sampling_rate must be a whole number of Hz, got {sampling_rate!r}")
    check_rate(int(sampling_rate))


def as_channels(audio: Any, empty: bool = False) -> np.ndarray:
    """A recording as float32 (C, T), with T > 0 where it must not be ``empty``.

    Raises:
        ValueError: not float, another shape, no samples, or too many channels or samples.
    """
    array = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if array.dtype.kind != "f":
        raise ValueError(f"audio must be float in [-1, 1], got {array.dtype}; divide 16-bit samples by 32768")
    if array.ndim not in (1, 2) or not (array.size or empty):
        raise ValueError(f"audio must have shape (T,) or (C, T) with T > 0, got {array.shape}")
    array = np.atleast_2d(array).astype(np.float32)
    if len(array) > MAX_CHANNELS:
        raise ValueError(f"audio has {len(array)} channels, at most {MAX_CHANNELS} are enhanced; channels come first, "
                         f"got {array.shape}")
    if array.shape[1] > MAX_AUDIO_FRAMES:
        raise ValueError(f"audio has {array.shape[1]} samples, over the limit of {MAX_AUDIO_FRAMES}; use enhance_file "
                         "in parts")
    return array
