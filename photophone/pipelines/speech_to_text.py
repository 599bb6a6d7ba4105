"""Speech to text: recordings of any length to words with times, as they are heard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.core.limits import MAX_CHANNELS, MAX_TEXTS_PER_CALL
from photophone.core.noise import SeededNoise
from photophone.core.threads import each_with_threads
from photophone.data.audio_checks import check_rate, check_samples
from photophone.data.audio_stream import ArrayReader, AudioReader
from photophone.data.resampling import ResamplingStream
from photophone.decoding.loop import Callback, DecodingStopped
from photophone.generators.delayed_streams.hearing import StreamSampler
from photophone.generators.delayed_streams.model import DelayedStreams
from photophone.generators.delayed_streams.session import StreamSession
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.pipelines.stream_chains import check_parts, load_streams
from photophone.pipelines.transcription import Transcription
from photophone.text.delayed_streams import TimedWord, WordTimer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENDING_SECONDS = 1.0
"""Of silence behind a recording, beside the delay of the text, so that its last word ends."""
BLOCK_SECONDS = 1.0
"""Of a file that are read at a time."""


@dataclass
class _Row:
    """One recording.

    Attributes:
        frames: float (hop,) each, silence around the recording included.
        timer: of its words.
        done: all of it was heard.
    """

    frames: Iterator[Tensor]
    timer: WordTimer
    done: bool = False


class SpeechToTextPipeline(Pipeline):
    """Speech to text with the times of words, by a delayed-streams model such as Kyutai's.

    The model hears a frame of 80 ms, and says what was said half a second before it, or two and a half. A frame costs
    the same in the tenth hour as in the first second, and what is remembered stays as large. Recordings of different
    length that are heard together give what each gives alone.

    Args:
        text_generator: :class:`photophone.DelayedStreams` that only writes.
        codec: :class:`photophone.Mimi` with the codebooks that it reads.
        text_tokenizer: of its vocabulary.
        published: ``model`` and ``revision`` of published weights.

    Raises:
        ValueError: parts that do not fit each other.
    """

    def __init__(self, text_generator: DelayedStreams, codec: AudioCodec, text_tokenizer: PreTrainedTokenizerBase,
                 published: dict[str, str | None] | None = None) -> None:
        super().__init__()
        if text_generator.spoken_books or max(text_generator.delays):
            raise ValueError("this model speaks, or hears with delays; speech to text needs one that only writes, such "
                             "as kyutai-stt-1b-en-fr")
        check_parts(text_generator, codec, len(text_tokenizer))
        self.register_modules(text_generator=text_generator, codec=codec, text_tokenizer=text_tokenizer)
        self.register_to_config(published=published)

    @classmethod
    def from_original(cls, name: str, folder: str | Path | None = None, *, revision: str | None = None,
                      cache_dir: str | Path | None = None, local_files_only: bool = False,
                      part_configs: dict[str, dict[str, Any]] | None = None, **files: Any) -> Self:
        """A published model with its codec and vocabulary.

        Args:
            name: of the registry, such as "kyutai-stt-1b-en-fr".
            folder: the published folder with its ``config.json``, or a hub id; None: the registry's hub id.
            revision, cache_dir, local_files_only: of hub downloads.
            part_configs: settings that replace those of ``config.json``, for ``lm`` and ``mimi``.
            **files: ``lm``, ``mimi`` and ``text_tokenizer`` that lie elsewhere.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that are missing or do not fit.
        """
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        parts, commit = load_streams(cls.__name__, name, folder, hub, files, part_configs or {})
        return cls(parts["lm"], parts["mimi"], parts["text_tokenizer"], published={"model": name, "revision": commit})

    @property
    def sample_rate(self) -> int:
        """Of what the codec hears, in Hz; recordings may have any."""
        return self.codec.sample_rate

    def __call__(self, audio: Any, sampling_rate: int | None = None, *, generator: GeneratorInput = None,
                 temperature: float | None = None, callback_on_step_end: StepCallback | None = None,
                 return_dict: bool = True) -> Transcription | tuple:
        """Write down recordings.

        Args:
            audio: a file, or float array or tensor (T,) or (C, T) with C at most 2, in [-1, 1]; or a list of such,
                which are heard together. Files are read as they are heard.
            sampling_rate: of arrays, in Hz; files know theirs.
            generator: one ``torch.Generator``, or one for each recording; it matters where the temperature is over 0.
            temperature: of the text; 0, the published one, takes the likeliest.
            callback_on_step_end: ``callback(pipeline, step, step, {})`` after each word; it stops by
                ``pipeline._interrupt``.
            return_dict: False gives a tuple with the texts alone.

        Raises:
            ValueError: audio that cannot be read, or an argument outside its limits.
            FileNotFoundError: no such file.
            DecodingStopped: the callback set ``_interrupt``.
        """
        given = list(audio) if isinstance(audio, list | tuple) else [audio]
        if not 1 <= len(given) <= MAX_TEXTS_PER_CALL:
            raise ValueError(f"{len(given)} recordings given; one call hears 1 to {MAX_TEXTS_PER_CALL}")
        readers = [_reader(one, sampling_rate) for one in given]
        sampler = self.sampler(temperature)
        generators, seeds = row_generators(generator, len(given))
        rows = [self._row(mono_blocks(reader), reader.sample_rate) for reader in readers]
        words: list[list[TimedWord]] = [[] for _ in rows]
        with self.watch(callback_on_step_end) as on_step:
            for step, (row, word) in enumerate(self._words(rows, sampler, SeededNoise(generators, self.device)), 1):
                words[row].append(word)
                _check_going(on_step, step)
        texts = [" ".join(word.text for word in row) for row in words]
        if not return_dict:
            return (texts,)
        names = [Path(one).stem for one in given if isinstance(one, str | Path)]
        return Transcription(texts, words, [round(row.timer.seconds, 3) for row in rows], seeds,
                             names_of=names if len(names) == len(given) else [], settings=sampler.settings(),
                             **self.source, weights_licence=self.weights_licence)

    def stream(self, chunks: Iterable[Any], sampling_rate: int, *, generator: torch.Generator | None = None,
               temperature: float | None = None) -> Iterator[TimedWord]:
        """Words as soon as they are known, of one recording that comes in chunks; all together are those of a call.

        The arguments are checked at once, each chunk as it comes. Until the last word the model is in use: one stream
        at a time.

        Args:
            chunks: float arrays or tensors (T,) in [-1, 1] of any length.
            sampling_rate: of all of them, in Hz.
            generator, temperature: see :meth:`__call__`.

        Raises:
            ValueError: a chunk that is no sound, or an argument outside its limits.
        """
        check_rate(sampling_rate)
        sampler = self.sampler(temperature)
        generators, _ = row_generators(generator, 1)
        rows = [self._row((_chunk(one) for one in chunks), int(sampling_rate))]
        return (word for _, word in self._words(rows, sampler, SeededNoise(generators, self.device)))

    def sampler(self, temperature: float | None = None) -> StreamSampler:
        """The published options, with the temperature of the text that is given."""
        chosen = {} if temperature is None else {"text_temperature": temperature}
        return StreamSampler.from_settings({"text_temperature": 0.0, "temperature": 0.0, **self.published_sampler,
                                            **chosen}, "SpeechToTextPipeline")

    def _words(self, rows: list[_Row], sampler: StreamSampler, noise: SeededNoise) -> Iterator[tuple[int, TimedWord]]:
        """Words of all rows as they become known, with the row of each."""
        return each_with_threads(self._heard(rows, sampler, noise), self.text_generator, len(rows))

    @torch.no_grad()
    def _heard(self, rows: list[_Row], sampler: StreamSampler, noise: SeededNoise) -> Iterator[tuple[int, TimedWord]]:
        model, codec = self.text_generator, self.codec
        session = StreamSession(model, len(rows), noise=noise, **sampler.settings())
        silence = torch.zeros(codec.hop_length)
        with codec.streaming(len(rows)), session.open():
            while True:
                frames = [next(row.frames, None) for row in rows]
                for index, (row, frame) in enumerate(zip(rows, frames)):
                    if frame is None and not row.done:
                        row.done = True
                        yield from ((index, word) for word in row.timer.finish())
                if all(row.done for row in rows):
                    return
                audio = torch.stack([silence if frame is None else frame for frame in frames])[:, None]
                codes = codec.encode(audio.to(codec.device)).values.to(model.device).reshape(len(rows), -1)
                if not session.offset:
                    session.step(codes)  # the first step sees what stands before all frames, and not its codes
                text = session.step(codes)[:, 0].tolist()
                for index, (row, token) in enumerate(zip(rows, text)):
                    if not row.done:
                        yield from ((index, word) for word in row.timer.feed(token))

    def _row(self, blocks: Iterable[Tensor], rate: int) -> _Row:
        config, tokenizer = self.text_generator.config, self.text_tokenizer
        timer = WordTimer(tokenizer.decode, lambda word: len(tokenizer(word, add_special_tokens=False)["input_ids"]),
                          self.codec.frame_rate, config.text_delay + config.silent_start)
        return _Row(self._frames(blocks, rate, timer), timer)

    def _frames(self, blocks: Iterable[Tensor], rate: int, timer: WordTimer) -> Iterator[Tensor]:
        """Frames (hop,) at the codec's rate of a recording in blocks (T,), with silence before and behind."""
        config, codec = self.text_generator.config, self.codec
        hop, silence = codec.hop_length, torch.zeros(codec.hop_length)
        yield from [silence] * math.ceil(config.silent_start * codec.frame_rate)
        resampling, held, samples = ResamplingStream(rate, codec.sample_rate), torch.zeros(0), 0
        for block in blocks:
            samples += len(block)
            held = torch.cat([held, resampling.push(block)])
            whole = len(held) // hop * hop
            yield from held[:whole].split(hop)[:whole // hop]
            held = held[whole:]
        if not samples:
            raise ValueError("the recording holds no samples")
        held = torch.cat([held, resampling.finish()])
        held = functional.pad(held, (0, -len(held) % hop))
        yield from held.split(hop)[:len(held) // hop]
        timer.seconds = samples / rate
        yield from [silence] * math.ceil((config.text_delay + ENDING_SECONDS) * codec.frame_rate)


def mono_blocks(reader: AudioReader | ArrayReader) -> Iterator[Tensor]:
    """A recording float32 (T,) in blocks, channels mixed."""
    for block in reader.blocks(max(1, round(BLOCK_SECONDS * reader.sample_rate))):
        yield torch.from_numpy(np.ascontiguousarray(block.mean(axis=0), np.float32))


def _reader(audio: Any, sampling_rate: int | None) -> AudioReader | ArrayReader:
    """A recording to read from front to back."""
    if isinstance(audio, str | Path | bytes):
        return AudioReader(audio)
    array = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or not array.size or \
            len(np.atleast_2d(array)) > MAX_CHANNELS:
        raise ValueError(f"audio must be a file, or float (T,) or (C, T) in [-1, 1] with C at most {MAX_CHANNELS} and "
                         f"T > 0, got {array.dtype} {array.shape}")
    if sampling_rate is None:
        raise ValueError("arrays need their sampling_rate, in Hz")
    check_rate(sampling_rate)
    array = np.atleast_2d(array).astype(np.float32)
    check_samples(array, "the audio")
    return ArrayReader(array, int(sampling_rate))


def _chunk(chunk: Any) -> Tensor:
    """A chunk of a stream as float32 (T,)."""
    array = chunk.detach().cpu().numpy() if isinstance(chunk, Tensor) else np.asarray(chunk)
    if array.dtype.kind != "f" or array.ndim != 1:
        raise ValueError(f"a chunk must be float (T,) in [-1, 1], got {array.dtype} {array.shape}")
    check_samples(array, "the chunk")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _check_going(on_step: Callback, step: int) -> None:
    """Tell of a word, and stop where the user asks to."""
    if on_step(step, step):
        raise DecodingStopped(f"stopped by the callback after word {step}")
