"""Text to speech: sentences, a generator of speech tokens, a streaming codec."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.core.limits import MAX_PAUSE_SECONDS, MAX_TEXTS_PER_CALL, SPEED_RANGE
from photophone.core.noise import SeededNoise, draw_seed
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, DecodingStopped
from photophone.generators.base import Generator
from photophone.generators.conditions import Condition
from photophone.generators.cosyvoice import LEFT_CHUNKS
from photophone.generators.sampler import Sampler, check_option
from photophone.loading.chains import check_chain
from photophone.loading.registry import find
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.pipelines.front_modules import front_module
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_faults import Listener, token_faults
from photophone.pipelines.speech_fronts import PhonemeSpeech, SpeechFront, SpokenVoice, Voice
from photophone.pipelines.speech_output import SpeechChunk, SpeechOutput
from photophone.pipelines.speech_pieces import (
    PAUSE,
    Effects,
    Part,
    Piece,
    Row,
    SpeechCall,
    WordClock,
    check_pace,
    keep_times,
    script_settings,
)
from photophone.pipelines.text_sound import TextSound, in_steps
from photophone.text.lexicon import Pronunciations, make_lexicon
from photophone.text.script import Directed
from photophone.text.sparktts import VoiceAttributes
from photophone.text.spoken_words import SpokenPiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.codecs.speech_units.base import SpeechUnits
    from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
    from photophone.codecs.speech_units.speakers import NamedSpeakers
    from photophone.generators.cosyvoice.flow import CosyVoiceFlow

GivenVoice = Voice | VoiceAttributes | str | Mapping[str, float] | Sequence[Voice] | None
"""A recording, a description, a name, names and how much of each, or those who speak in turns."""
OUTPUT_TYPES = ("np", "pt", "latent")
PIECES_AT_ONCE = 4
"""Sentences that an offline call generates together."""
SILENCE_TOKENS = 16
"""Tokens of digital silence that are encoded to find out how the codec writes it."""
PARAGRAPH_PAUSES = 2
"""Pauses of a sentence that one of a paragraph is."""


class TextToSpeechPipeline(Pipeline):
    """Text to speech: English by the built-in voice; other languages and given voices by VoxCPM, Pocket TTS, CosyVoice
    1, 2 and 3, and Spark-TTS.

    Each sentence is generated from its own seed, drawn from that of the text, so it depends on nothing else; the
    codec decodes all sentences of a text as one stream, so there are no clicks where they meet. VoxCPM gets whole
    paragraphs where they are short; without a voice to speak with, it speaks the rest of a longer text with that of its
    first part. CosyVoice and Spark-TTS make the sound of each piece on its own.

    Args:
        speech_generator: :class:`photophone.SpeechFlowAR`, :class:`photophone.generators.voxcpm.model.VoxCPM`,
            :class:`photophone.PocketTTS`, :class:`photophone.CosyVoiceRelativeLM`, :class:`photophone.CosyVoiceQwenLM`
            or :class:`photophone.SparkTTS`. For one that reads something else, derive from this class and give
            :attr:`front`.
        codec: tokens to speech; it must stream. Of CosyVoice the vocoder, of Spark-TTS BiCodec.
        text_tokenizer: of all but the first; None for phonemes.
        published: ``model`` (registry name) and ``revision`` of published weights; it brings their sampler settings.
        flow, unit_tokenizer, speaker_encoder: of CosyVoice: speech tokens to mel frames, and what reads voices.
        speakers: named voices of a CosyVoice release.
        book_generator: of VoxInstruct: the first book of codes to all; its ``unit_tokenizer`` reads voices.
    """

    _optional_components = ["text_tokenizer", "flow", "unit_tokenizer", "speaker_encoder", "speakers",
                            "book_generator"]
    left_chunks: int | None = LEFT_CHUNKS
    """Of CosyVoice 2 and 3: pieces of a second before its own that speech sees beside the voice's recording; None: all
    of a sentence, at a cost that grows."""

    def __init__(self, speech_generator: Generator, codec: AudioCodec,
                 text_tokenizer: PreTrainedTokenizerBase | None = None,
                 published: dict[str, str | None] | None = None, flow: CosyVoiceFlow | None = None,
                 unit_tokenizer: SpeechUnits | None = None, speaker_encoder: CAMPlusSpeaker | None = None,
                 speakers: NamedSpeakers | None = None, book_generator: Generator | None = None) -> None:
        super().__init__()
        self.register_modules(speech_generator=speech_generator, codec=codec, text_tokenizer=text_tokenizer, flow=flow,
                              unit_tokenizer=unit_tokenizer, speaker_encoder=speaker_encoder, speakers=speakers,
                              book_generator=book_generator)
        self.register_to_config(published=published)
        if book_generator is None and (flow is None) != (unit_tokenizer is None):
            raise ValueError("CosyVoice needs both flow and unit_tokenizer")

    @classmethod
    def from_original(cls, name: str, folder: str | Path | None = None, *, revision: str | None = None,
                      cache_dir: str | Path | None = None, local_files_only: bool = False,
                      generator_config: dict[str, Any] | None = None, codec_config: dict[str, Any] | None = None,
                      part_configs: dict[str, dict[str, Any]] | None = None, **files: Any) -> Self:
        """A published generator with its codec and vocabulary, from official checkpoints.

        Args:
            name: of the generator in the registry, such as "voxcpm-0.5b".
            folder: the published folder or a hub id, for all that ``files`` does not name; None: the registry's hub
                ids. The sizes are those of its ``config.json`` where it is a folder with one, else those of the
                registry.
            revision, cache_dir, local_files_only: of hub downloads.
            generator_config, codec_config: replace settings.
            part_configs: the same by the names of the registry's chain, for CosyVoice and Spark-TTS.
            **files: checkpoints by the names of the registry's chain (``voxcpm``, ``vae``), see
                :meth:`photophone.ClassToImagePipeline.from_original`; ``text_tokenizer``: a folder or hub id;
                ``campplus`` and ``spk2info`` of CosyVoice and ``wav2vec2`` of Spark-TTS: files. CosyVoice 1 reads
                text with Whisper's vocabulary, which its folders do not hold: a ``.tiktoken`` file, or a Whisper of
                transformers.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that are missing or do not fit.
        """
        module = front_module(find(name).class_name)
        chain = check_chain(cls.__name__, name, files, ("text_tokenizer", *(module.OTHERS if module else ())))
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        configs = dict(part_configs or {})
        if generator_config or codec_config:
            key = chain.tokenizer[0]
            (own,) = set(chain.files) - {key}
            configs |= {own: generator_config or {}, key: codec_config or {}}
        parts, commit = module.load_parts(name, chain, files, folder, hub, configs)
        return cls(**parts, published={"model": name, "revision": commit})

    @property
    def sample_rate(self) -> int:
        """Of the speech, in Hz."""
        return self.codec.output_sample_rate

    @property
    def front(self) -> SpeechFront:
        """What stands between texts and the generator."""
        if self.text_tokenizer is None:
            return PhonemeSpeech(accents=getattr(self.speech_generator, "accents", None))
        module = front_module(type(self.speech_generator).__name__)
        if module is None:
            raise ValueError(f"no front for {type(self.speech_generator).__name__}: derive from this class and give it "
                             "one")
        return module.front(self)

    @property
    def clock(self) -> tuple[float, float]:
        """Tokens a second, and by how many seconds sounds come before them."""
        return self.codec.frame_rate, self.speech_generator.config.get("sound_lead", 0.0)

    @property
    def voices(self) -> tuple[str, ...]:
        """Names that ``voice`` may be, beside recordings: the speakers of the release."""
        return self.front.voices

    @torch.no_grad()
    def __call__(self, text: str | list[str], *, voice: GivenVoice = None,
                 instruction: str | None = None, normalize: bool | None = None,
                 pronounce: Pronunciations | None = None, markup: bool | None = None, generator: GeneratorInput = None,
                 speed: float = 1.0, guidance_scale: float | None = None, temperature: float | None = None,
                 num_inference_steps: int | None = None, pause: float = 0.15, output_type: str = "np",
                 callback_on_step_end: StepCallback | None = None, return_dict: bool = True,
                 **sampler_options: Any) -> SpeechOutput | tuple:
        """Speak.

        Args:
            text: English (or what else the generator speaks), or a list of texts.
            voice: to speak with, for generators that take one; the name of one of :attr:`voices`, or a mixture of
                those of :class:`photophone.SpeechFlowAR`, ``{"emma": 0.7, "george": 0.3}``; Spark-TTS also speaks with
                voices that are described. Two for Kyutai's 1.6B, which speak the lines of the text in turns.
            instruction: how to speak, in words, for CosyVoice and VoxCPM 2.
            normalize: whether CosyVoice gets numbers, dates and the like as words, by the libraries of its authors;
                None: if they are there, with a warning where a text with digits would need them.
            pronounce: words and their phonemes, ``{"GIF": "dʒɪf"}``, or a file of them, see
                :mod:`photophone.text.lexicon`; for the built-in voice.
            markup: whether the texts are SSML, see :mod:`photophone.text.ssml`; None: those that begin with
                ``<speak``. False: also ``[pause 1s]`` and ``[GIF](/dʒɪf/)`` are text.
            generator: one ``torch.Generator``, or one for each text; see
                :func:`photophone.pipelines.base.row_generators`.
            speed: 1 is the voice's own, 2 is twice as fast; speech of those that know one pace is stretched.
            guidance_scale, temperature, num_inference_steps: of the generator's sampler; None is its default.
            pause: seconds of silence between sentences, beside what the voice itself leaves; twice that between
                paragraphs.
            output_type: "np", "pt" or "latent", which CosyVoice and Spark-TTS do not give.
            callback_on_step_end: ``callback(pipeline, step, total, {})`` after each group of sentences, counted in
                sentences; set ``pipeline._interrupt`` to stop.
            return_dict: False gives a tuple with the speech alone.
            **sampler_options: further options of the generator's ``Sampler``, such as ``top_p`` or ``top_k``;
                ``sampler()`` shows them all.

        Raises:
            ValueError: a text that cannot be read, or an argument outside its limits.
            DecodingStopped: the callback set ``_interrupt``.
        """
        texts = list(text) if isinstance(text, list | tuple) else [text]
        if not 1 <= len(texts) <= MAX_TEXTS_PER_CALL:
            raise ValueError(f"{len(texts)} texts given; one call speaks 1 to {MAX_TEXTS_PER_CALL}")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {OUTPUT_TYPES}, got {output_type!r}")
        call = self.call_of(texts, generator, voice, instruction, normalize, pronounce, markup, speed, pause,
                          guidance_scale=guidance_scale, temperature=temperature,
                          num_inference_steps=num_inference_steps, **sampler_options)
        with self.watch(callback_on_step_end) as on_step:
            audio = self._speak(call, on_step, output_type)
        for row in call.rows:
            row[0].row.close()
        return self._output(texts, call, audio) if return_dict else (audio,)

    def stream(self, text: str, *, voice: GivenVoice = None,
               instruction: str | None = None, normalize: bool | None = None,
               pronounce: Pronunciations | None = None, markup: bool | None = None,
               generator: torch.Generator | None = None, speed: float = 1.0, guidance_scale: float | None = None,
               temperature: float | None = None, num_inference_steps: int | None = None, pause: float = 0.15,
               callback_on_step_end: StepCallback | None = None, **sampler_options: Any) -> Iterator[SpeechChunk]:
        """Speak, chunk by chunk as speech is made; together the chunks equal the speech of a call of the same seed.

        Not those of CosyVoice 1: a call sees whole sentences, its stream windows of two seconds, as with its authors.
        Faults are warnings at the end.

        The arguments are checked at once. Until the last chunk the codec is in use: one stream at a time.

        Args:
            text: English, or what else the generator speaks.
            voice, instruction, normalize, pronounce, markup, generator, speed, guidance_scale, temperature,
                num_inference_steps, pause, **sampler_options: see :meth:`__call__`.
            callback_on_step_end: called after each sentence.
        """
        call = self.call_of([text], generator, voice, instruction, normalize, pronounce, markup, speed, pause,
                          guidance_scale=guidance_scale, temperature=temperature,
                          num_inference_steps=num_inference_steps, **sampler_options)
        return self._stream(call, callback_on_step_end)

    @torch.no_grad()
    def explain(self, text: str, *, pronounce: Pronunciations | None = None, markup: bool | None = None,
                speed: float = 1.0, pause: float = 0.15, voice: GivenVoice = None) -> list[SpokenPiece]:
        """What the voice reads of a text and when it says it, without speaking: words, phonemes, times.

        Args:
            text, pronounce, markup, speed, pause, voice: see :meth:`__call__`; its ``sentences`` are these.

        Raises:
            ValueError: as of a call; or the generator reads letters, and tells no times.
        """
        call = self.call_of([text], torch.Generator(), voice, None, None, pronounce, markup, speed, pause)
        (pieces,), done = call.rows, 0
        for piece in pieces:
            self.condition_of([piece], call.sampler)
            if piece.counts is None:
                raise ValueError(f"{type(self.speech_generator).__name__} reads letters by itself, and does not tell "
                                 "when it says a word")
            done += piece.before
            piece.begin(done, *self.clock)
            done += sum(piece.counts) + piece.pause
        return pieces[0].row.spoken

    def call_of(self, texts: list[str], generator: GeneratorInput, voice: GivenVoice,
              instruction: str | None, normalize: bool | None, pronounce: Pronunciations | None, markup: bool | None,
              speed: float, pause: float, **options: Any) -> SpeechCall:
        """All that is asked for, checked."""
        front, lexicon = self.front.normalizing(normalize), make_lexicon(pronounce)
        scripts = [front.script(one, markup) for one in texts]
        for script in scripts:
            front.check(script.plain)
        spoken = self.read_voice(voice, instruction, front)
        front = front.speaking_with(spoken)
        if not isinstance(front, PieceFront):  # to which the instruction is a part of the voice
            front = front.styled(instruction, spoken)
        sampler = self.sampler(speed, pause, **options)
        stretch = 1.0 if self.speech_generator.paces else speed
        generators, seeds = row_generators(generator, len(texts))
        rows = [self._pieces(front.script_pieces(script, lexicon), own, speed, pause, spoken)
                for script, own in zip(scripts, generators)]
        return SpeechCall(front, rows, sampler, stretch, spoken, seeds, scripts, lexicon,
                     {"speed": speed, "pause": pause, "markup": markup, **options})

    def _output(self, texts: list[str], call: SpeechCall, audio: list[Any]) -> SpeechOutput:
        rows = [pieces[0].row for pieces in call.rows]
        plain, options = [script.plain for script in call.scripts], dict(call.options)
        markup = options.pop("markup")
        settings = {**self.settings(**options), "pause": options["pause"], **call.front.settings(plain),
                    **(call.voice.facts() if call.voice else {}), **script_settings(call.lexicon, call.scripts, markup)}
        return SpeechOutput(audio, self.sample_rate, texts, call.seeds, settings=settings, **self.source,
                            weights_licence=self.weights_licence, unread=[self.front.unread(one) for one in plain],
                            faults=[tuple(row.faults) for row in rows],
                            sentences=[row.spoken for row in rows] if rows[0].spoken else None)

    @torch.no_grad()
    def read_voice(self, voice: GivenVoice, instruction: str | None = None,
                   front: SpeechFront | None = None) -> SpokenVoice | None:
        """A voice, or those who speak in turns, as the generator reads it.

        Raises:
            ValueError: the generator has one voice of its own, cannot read this one, or has none of this name.
        """
        front = front or self.front
        alone, several = isinstance(front, PieceFront), isinstance(voice, list | tuple)
        kinds = (Voice, *((VoiceAttributes,) if alone else ()), *((str,) if front.takes_names else ()),
                 *((Mapping,) if front.takes_names and front.mixes_names else ()))
        if voice is not None and not all(isinstance(one, kinds) for one in (voice if several else [voice])):
            raise ValueError(f"voice must be a photophone.Voice(audio, sampling_rate, text), got {voice!r:.60}")
        for one in voice if several else [voice]:
            if isinstance(one, Voice) and one.reference is not None and not front.takes_references:
                raise ValueError("this generator reads one recording; leave the reference beside it out")
        if several:
            return front.read_turns(voice)
        if alone:
            return front.whole_voice(voice, instruction)
        if isinstance(voice, str | Mapping):
            return front.named_voice(voice)
        return front.no_voice() if voice is None else front.read_voice(voice)

    def _speak(self, call: SpeechCall, on_step: Callback, output_type: str) -> list[Any]:
        """The output of each text."""
        pieces = [piece for row in call.rows for piece in row]
        if not isinstance(self.front, PieceFront):
            made = self._generate(pieces, call.sampler, on_step)
            return [self._finish(self._parts(row, made), output_type, call) for row in call.rows]
        if output_type == "latent":
            raise ValueError(f"{type(self.speech_generator).__name__} gives speech, no latents: output_type must be "
                             "'np' or 'pt'")
        parts: dict[int, list[Tensor]] = {id(row[0].row): [torch.zeros(0)] for row in call.rows}
        for piece, audio in self._sound(pieces, call, on_step):
            parts[id(piece.row)].append(audio.float().cpu())
        joined = [torch.cat(parts[id(row[0].row)]) for row in call.rows]
        return joined if output_type == "pt" else [audio.numpy() for audio in joined]

    def _parts(self, row: list[Piece], made: Iterator[Tensor]) -> Iterator[Part]:
        """The tokens of a text, each piece with the silence around it."""
        for piece in row:
            values = next(made)
            if piece.before:
                yield self.silence(piece.before).to(values), PAUSE
            yield values, piece
            if piece.pause:
                yield self.silence(piece.pause).to(values), PAUSE

    @torch.no_grad()
    def _sound(self, pieces: list[Piece], call: SpeechCall, on_step: Callback,
               stream: bool = False) -> Iterator[tuple[Piece, Tensor]]:
        """Speech (T,) of pieces that become sound on their own, each part with its piece. A few are written at once; a
        stream writes one after the other."""
        front, done, sampler = self.front, 0, call.sampler
        while done < len(pieces):
            group = pieces[done:done + 1] if stream else self.group(pieces[done:])
            made, requests = [Made(piece.row.faults) for piece in group], [piece.request for piece in group]
            written = None if stream else front.write(requests, [piece.seed for piece in group], sampler, made)
            for index, piece in enumerate(group):
                if written is None:
                    parts = front.stream(requests[0], piece.seed, sampler, made[0])
                else:
                    parts = iter([front.sound_of(requests[index], written[index], piece.seed, made[index])])
                yield from ((piece, audio) for audio in self.around(piece, parts, call) if len(audio))
                piece.row.voice = made[index].voice or piece.row.voice
            done += len(group)
            if on_step(done, len(pieces)):
                raise DecodingStopped(f"stopped by the callback after sentence {done} of {len(pieces)}")

    def around(self, piece: Piece, parts: Iterator[Tensor], call: SpeechCall) -> Iterator[Tensor]:
        """The sound of a piece with its effects, and the silence in front of it and behind it."""
        yield torch.zeros(piece.before * self.codec.hop_length)
        effects, listener = self.effects_of(piece, call), self.listener_of(piece, call)
        for audio in filter(len, parts):
            listener.hear(audio)
            yield effects(audio)
        yield effects.finish()
        yield torch.zeros(piece.pause * self.codec.hop_length)

    def effects_of(self, piece: Piece, call: SpeechCall) -> Effects:
        """What is done to the sound of a piece."""
        stretch = 1.0 if self.speech_generator.paces else call.stretch * piece.manner.rate
        return Effects(self.sample_rate, piece.manner.volume, stretch)

    def _stream(self, call: SpeechCall, callback: StepCallback | None) -> Iterator[SpeechChunk]:
        (pieces,) = call.rows
        clock = WordClock(pieces[0].row, self.sample_rate)
        with self.watch(callback) as on_step:
            if isinstance(self.front, PieceFront):
                parts = (audio for _, audio in self._sound(pieces, call, on_step, stream=True))
            else:
                parts = filter(len, self._decode(self._patches(pieces, call.sampler, on_step), call))
            for audio in parts:
                yield SpeechChunk(audio.float().cpu().numpy(), self.sample_rate, *clock.next(len(audio)))
        pieces[0].row.close()
        for fault in pieces[0].row.faults:  # a stream has no result that could tell
            warnings.warn(fault, stacklevel=2)

    @torch.no_grad()
    def _patches(self, pieces: list[Piece], sampler: Sampler, on_step: Callback) -> Iterator[Part]:
        """Tokens (1, n, ...) of each patch and pause, in order, the first of a piece with it."""
        for index, piece in enumerate(pieces):
            if piece.before:
                yield self.silence(piece.before), PAUSE
            condition = self.condition_of([piece], sampler)
            noise, made = SeededNoise.from_seeds([piece.seed], self.speech_generator.device), []
            for patch in self.speech_generator.stream(condition, noise=noise, sampler=sampler):
                count = int(patch.mask.sum())
                if count:
                    made.append(patch.values[..., :count, :] if patch.is_continuous else patch.values[..., :count])
                    yield made[-1], piece if len(made) == 1 else None
            self.end_piece(piece, condition, 0, made)
            if piece.pause:
                yield self.silence(piece.pause), PAUSE
            if on_step(index + 1, len(pieces)):
                raise DecodingStopped(f"stopped by the callback after sentence {index + 1} of {len(pieces)}")

    def _generate(self, pieces: list[Piece], sampler: Sampler, on_step: Callback) -> Iterator[Tensor]:
        """Tokens (1, n, ...) of each piece, a few pieces at once."""
        done = 0
        while done < len(pieces):
            group = self.group(pieces[done:])
            condition = self.condition_of(group, sampler)
            noise = SeededNoise.from_seeds([piece.seed for piece in group], self.speech_generator.device)
            tokens = self.speech_generator.generate(condition, noise=noise, sampler=sampler)
            done += len(group)
            if on_step(done, len(pieces)):
                raise DecodingStopped(f"stopped by the callback after sentence {done} of {len(pieces)}")
            for row, (piece, count) in enumerate(zip(group, tokens.mask.sum(dim=1).tolist())):
                values = tokens.values[row:row + 1]
                axis = 1 if tokens.is_continuous else -1
                values = values.narrow(axis, 0, count)
                self.end_piece(piece, condition, row, [values])
                yield values

    def end_piece(self, piece: Piece, condition: Condition, row: int, made: list[Tensor]) -> None:
        """Note what went wrong with a piece; the rest of a text without a voice is spoken with that of its first.

        Args:
            piece: that is complete.
            condition, row: what it was made from, and its row there.
            made: its tokens (1, n, D) or codes (1, Q, n), in parts.
        """
        values = torch.cat(made, 1 if made[0].is_floating_point() else -1)[0] if made else torch.zeros(0)
        tokens = values if values.is_floating_point() or values.ndim == 1 else values[0]
        piece.row.faults += token_faults(self.front.spoken_words(piece.part.text), tokens, rate=self.codec.frame_rate,
                                         limit=self.front.limit(condition, row))
        if self.front.takes_voices and piece.row.voice is None and made:
            piece.row.voice = self.front.kept_voice(piece.part, torch.cat(made, dim=1)[0])

    def listener_of(self, piece: Piece, call: SpeechCall) -> Listener:
        """Who hears a piece as the generator says it, among those of its text."""
        text = piece.part.text
        pace = piece.manner.rate * call.sampler.speed if self.speech_generator.paces else 1.0
        made = Listener(self.front.spoken_words(text), self.sample_rate, pace, self.front.longest_pause(text))
        piece.row.heard.append(made)
        return made

    def condition_of(self, pieces: list[Piece], sampler: Sampler) -> Condition:
        """What the generator reads of pieces, which learn how long it will speak them where it tells."""
        condition = self.speech_generator.plan(self.front.condition([piece.request for piece in pieces]),
                                               sampler=sampler)
        for row, piece in enumerate(pieces):
            piece.counts = self.front.counts(condition, row)
        return condition

    def group(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces to generate next together: none whose voice will be that of another one among them."""
        group = pieces[:1]
        for piece in pieces[1:PIECES_AT_ONCE]:
            if self.front.first_decides(piece.row.voice) and piece.row is group[-1].row:
                break
            group.append(piece)
        return group

    def _decode(self, parts: Iterable[Part], call: SpeechCall) -> Iterator[Tensor]:
        """Speech (T,) of each part, the codec going on from part to part, and from the end of a voice's recording."""
        with self.codec.streaming(1):
            sound = TextSound(self, call)
            for part, opened in in_steps(keep_times(parts, *self.clock)):
                yield sound(part, opened)
            yield sound.finish()

    def _finish(self, parts: Iterable[Part], output_type: str, call: SpeechCall) -> Any:
        """The output of one text."""
        if output_type == "latent":
            values = [part for part, _ in keep_times(parts, *self.clock)]
            return Tokens(torch.cat(values, 1 if values[0].is_floating_point() else -1),
                          model=self.codec.published_name)
        audio = torch.cat([part.float().cpu() for part in self._decode(parts, call)])
        return audio if output_type == "pt" else audio.numpy()

    def silence(self, count: int) -> Tensor:
        """``count`` tokens (1, count, ...) as the codec writes silence."""
        zeros = torch.zeros(1, 1, SILENCE_TOKENS * self.codec.hop_length, device=self.codec.device)
        values = self.codec.encode(zeros).values
        axis = 1 if values.is_floating_point() else -1
        return values.narrow(axis, SILENCE_TOKENS // 2, 1).repeat_interleave(count, axis)

    def _pieces(self, directed: list[Directed], generator: torch.Generator, speed: float, pause: float,
                voice: SpokenVoice | None) -> list[Piece]:
        """The pieces of a text, each with a seed of its own."""
        if not directed:
            raise ValueError("nothing in the text can be read; give words to say")
        lengths, row = {"clause": 0, "sentence": pause, "paragraph": PARAGRAPH_PAUSES * pause}, Row(voice)
        shrinks = not (self.speech_generator.paces or isinstance(self.front, PieceFront))
        made = []
        for index, one in enumerate(directed):
            check_pace(speed, one.manner.rate)
            usual = lengths[one.piece.ends] if index + 1 < len(directed) else 0
            behind = usual if one.behind is None else one.behind
            behind *= speed * one.manner.rate if shrinks else 1  # it is decoded, then stretched with the piece
            made.append(Piece(one.piece, draw_seed(generator), round(behind * self.codec.frame_rate), row, one.manner,
                              round(one.before * self.codec.frame_rate)))
        return made

    def facts(self, text: str, seed: int, pause: float = 0.15, pronounce: Pronunciations | None = None,
              markup: bool | None = None, **options: Any) -> dict[str, Any]:
        """What repeats :meth:`stream` of a text with a seed and options: the JSON beside a file."""
        script = self.front.script(text, markup)
        settings = {**self.settings(pause=pause, **options), "pause": pause,
                    **script_settings(make_lexicon(pronounce), [script], markup)}
        return SpeechOutput([], self.sample_rate, [text], [seed], settings=settings, **self.source,
                            weights_licence=self.weights_licence, unread=[self.front.unread(script.plain)]).facts(0)

    def settings(self, speed: float = 1.0, pause: float = 0.15, **given: Any) -> dict[str, Any]:
        """All options of :meth:`sampler` by name."""
        settings = self.sampler(speed, pause, **given).settings()
        return settings if speed == 1 else {**settings, "speed": speed}

    def sampler(self, speed: float = 1.0, pause: float = 0.15, **given: Any) -> Sampler:
        """The generator's sampler with the published options, else its defaults; users' come first.

        Raises:
            ValueError: an option outside its limits, or that the generator does not have.
        """
        check_option("pause", pause, kind=float, optional=False, low=0, high=MAX_PAUSE_SECONDS, choices=None)
        check_option("speed", speed, kind=float, optional=False, low=SPEED_RANGE[0], high=SPEED_RANGE[1], choices=None)
        family = type(self.speech_generator)
        chosen = {name: value for name, value in given.items() if value is not None}
        if family.paces and speed != 1:  # the voice's own, which every generator has
            chosen["speed"] = speed
        settings = {**self.speech_generator.sampler_settings, **self.published_sampler, **chosen}
        return family.Sampler.from_settings(settings, family.__name__)
