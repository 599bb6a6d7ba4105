"""Speech that goes on: a recording with its words becomes text and speech that follow, by TASTE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.hift.model import HiFT
from photophone.codecs.speech_units.blocks import HOP, SAMPLE_RATE, WhisperMel
from photophone.codecs.speech_units.campplus import LEAST_SAMPLES, CAMPlusSpeaker
from photophone.core.limits import MAX_TEXTS_PER_CALL
from photophone.core.noise import SeededNoise, draw_seed
from photophone.decoding.loop import DecodingStopped
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.generators.taste.layout import IGNORED, ContinuationSampler, SpokenPrompt, piece_tables
from photophone.generators.taste.spoken_lm import TasteSpokenLM
from photophone.generators.taste.tower import TasteTower
from photophone.generators.taste.unit_decoder import SpokenWords, TasteUnitDecoder, UnitSampler
from photophone.loading.chains import check_chain
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.pipelines.speech_faults import Limit, Listener, token_faults
from photophone.pipelines.speech_fronts import Voice, voice_samples
from photophone.pipelines.speech_output import SpeechOutput
from photophone.pipelines.taste_chain import OTHERS, load_taste
from photophone.pipelines.token_to_speech import TokenToSpeechPipeline
from photophone.text.taste import WordIds, said_words, split_words, vocabulary_pieces, word_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FRONT_PLACES = 3
"""In front of speech: its begin, the speaker, the task."""
SOUND = "cosyvoice-300m-flow"


@dataclass
class SpokenContinuation(SpeechOutput):
    """Speech and what is needed to make it again.

    Attributes:
        continuations: of each prompt, the words that are new; ``texts`` are all that is said.
    """

    continuations: list[str] = field(default_factory=list, kw_only=True)

    def facts(self, row: int) -> dict[str, Any]:
        return {**super().facts(row), **({"continuation": self.continuations[row]} if self.continuations else {})}


@dataclass(frozen=True)
class _Words:
    """Words and how each is spoken.

    Attributes:
        words: without spaces.
        codes: Long (W, Q) of the words; None: nobody spoke them.
    """

    words: list[str]
    codes: Tensor | None

    def __add__(self, other: _Words) -> _Words:
        known = [part.codes for part in (self, other) if part.codes is not None]
        return _Words(self.words + other.words, torch.cat(known))


class SpokenContinuationPipeline(Pipeline):
    """A recording with its words, or words alone, to text that goes on with them and its speech, by TASTE.

    Each word has one unit of speech, four codes. The tower reads those of the recording, the language model writes
    further words with theirs, the unit decoder turns words and units into the speech tokens of CosyVoice 1, whose flow
    and vocoder make the sound, in the voice of any recording.

    Args:
        spoken_lm, tower, unit_decoder: of TASTE.
        flow, vocoder: of CosyVoice 1.
        text_tokenizer: of the language model (Llama's).
        word_tokenizer: of tower and unit decoder (Whisper's).
        speaker_encoder: recordings to vectors of speakers.
        published: ``model`` and ``revision`` of published weights.

    Raises:
        ValueError: parts that do not fit each other.
    """

    def __init__(self, spoken_lm: TasteSpokenLM, tower: TasteTower, unit_decoder: TasteUnitDecoder, flow: CosyVoiceFlow,
                 vocoder: HiFT, text_tokenizer: PreTrainedTokenizerBase, word_tokenizer: PreTrainedTokenizerBase,
                 speaker_encoder: CAMPlusSpeaker, published: dict[str, str | None] | None = None) -> None:
        super().__init__()
        _check_parts(spoken_lm, tower, unit_decoder, flow, text_tokenizer, word_tokenizer)
        self.register_modules(spoken_lm=spoken_lm, tower=tower, unit_decoder=unit_decoder, flow=flow, vocoder=vocoder,
                              text_tokenizer=text_tokenizer, word_tokenizer=word_tokenizer,
                              speaker_encoder=speaker_encoder)
        self.register_to_config(published=published)
        self.mel = WhisperMel(tower.config.num_mels)

    @classmethod
    def from_original(cls, name: str, folder: str | Path | None = None, *, revision: str | None = None,
                      cache_dir: str | Path | None = None, local_files_only: bool = False,
                      part_configs: dict[str, dict[str, Any]] | None = None, **files: Any) -> Self:
        """A published TASTE with the sound of CosyVoice 1, vocabularies, and its network for speakers.

        Args:
            name: of the registry, "taste-llama-1b".
            folder: the published folder with ``config.json``, ``llama_tokenizer`` and ``cosyvoice``, or a hub id; None:
                the registry's hub id.
            revision, cache_dir, local_files_only: of hub downloads.
            part_configs: settings that replace those of the release, by the names of the registry's chain: ``model``,
                ``tower``, ``unit_decoder``, ``flow``, ``hift``.
            **files: that lie elsewhere: ``model``, which holds tower and unit decoder too, ``flow`` and ``hift`` or
                ``voice_generator`` with both, ``text_tokenizer``, ``campplus``, and ``word_tokenizer``: Whisper's,
                which is in no published folder, as a ``.tiktoken`` file or a Whisper of transformers.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that are missing or do not fit.
        """
        chain = check_chain(cls.__name__, name, files, OTHERS)
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        parts, commit = load_taste(name, chain, files, folder, hub, part_configs or {})
        return cls(**parts, published={"model": name, "revision": commit})

    @property
    def sample_rate(self) -> int:
        """Of the speech, in Hz."""
        return self.vocoder.sample_rate

    @cached_property
    def _sound(self) -> TokenToSpeechPipeline:
        published = {"model": SOUND, "revision": None} if self.entry else None
        return TokenToSpeechPipeline(self.flow, self.vocoder, published)

    @cached_property
    def _tables(self) -> dict[str, Tensor]:
        """What ids of the language model are."""
        config = self.spoken_lm.config
        return piece_tables(vocabulary_pieces(self.text_tokenizer, config.vocab_size), config.start, config.end)

    @torch.no_grad()
    def __call__(self, prompt: Voice | str | Sequence[Voice | str], *, voice: Voice | None = None,
                 generator: GeneratorInput = None, with_prompt: bool = True, temperature: float | None = None,
                 callback_on_step_end: StepCallback | None = None, return_dict: bool = True,
                 **options: Any) -> SpokenContinuation | tuple:
        """Go on with what was said.

        Args:
            prompt: a recording with its words, at most as long as Whisper hears (30 s), or words that nobody spoke; or
                a list of such.
            voice: a recording of who speaks; its words are not read. None: that of the prompt; words alone need one.
            generator: one ``torch.Generator``, or one for each prompt.
            with_prompt: recorded words are spoken again in front of the new ones, as by the authors.
            temperature: of the speech tokens.
            callback_on_step_end: ``callback(pipeline, step, total, {})`` after each prompt; it stops by
                ``pipeline._interrupt``.
            return_dict: False gives a tuple with the speech alone.
            **options: of :class:`photophone.generators.taste.layout.ContinuationSampler`: ``extra_words``,
                ``text_top_p``, ``text_temperature``, ``repetition_penalty``, ``max_ids``.

        Raises:
            ValueError: a recording without words, a voice that is missing, or an argument outside its limits.
            DecodingStopped: the callback set ``_interrupt``.
        """
        text = ContinuationSampler.from_settings({**self.published_sampler, **options}, type(self).__name__)
        units = UnitSampler.from_settings({"temperature": temperature})
        prompts = self._prompts(prompt)
        if voice is None and any(isinstance(one, str) for one in prompts):
            raise ValueError("words that nobody spoke need a voice: voice=Voice(recording)")
        speakers = [self._speaker(voice or one) for one in prompts]
        known = [self._known(one) for one in prompts]

        def go_on(row: int, seed: int, faults: list[str]) -> tuple[_Words, str]:
            new = self._continue(known[row], seed, text, faults)
            spoken = with_prompt and known[row].codes is not None
            return (known[row] + new if spoken else new), " ".join(new.words)

        result = self._run(go_on, speakers, generator, units, callback_on_step_end)
        result.settings = {**text.settings(), **result.settings, "with_prompt": with_prompt}
        return result if return_dict else (result.audio,)

    @torch.no_grad()
    def repeat(self, recording: Voice | Sequence[Voice], *, voice: Voice | None = None,
               generator: GeneratorInput = None, temperature: float | None = None,
               callback_on_step_end: StepCallback | None = None, return_dict: bool = True
               ) -> SpokenContinuation | tuple:
        """Say a recording again from the codes of its words, or in another voice.

        Args:
            recording: with its words, or a list of such.
            voice, generator, temperature, callback_on_step_end, return_dict: see :meth:`__call__`.

        Raises:
            ValueError, DecodingStopped: as :meth:`__call__`.
        """
        units = UnitSampler.from_settings({"temperature": temperature})
        given = self._prompts(recording)
        if any(isinstance(one, str) for one in given):
            raise ValueError("only recordings can be repeated: Voice(audio, text=its words)")
        speakers, known = [self._speaker(voice or one) for one in given], [self._known(one) for one in given]
        result = self._run(lambda row, seed, faults: (known[row], None), speakers, generator, units,
                           callback_on_step_end)
        return result if return_dict else (result.audio,)

    def _run(self, words_of: Any, speakers: list[Tensor], generator: GeneratorInput, units: UnitSampler,
             callback: StepCallback | None) -> SpokenContinuation:
        """Speech of each row; ``words_of(row, seed, faults)`` gives its words and those of them that are new."""
        generators, seeds = row_generators(generator, len(speakers))
        audio, texts, new, faults = [], [], [], [[] for _ in speakers]
        with self.watch(callback) as on_step:
            for row, (speaker, own) in enumerate(zip(speakers, generators)):
                words, continued = words_of(row, draw_seed(own), faults[row])
                audio.append(self._speak(words, speaker, draw_seed(own), units, faults[row]).numpy())
                texts.append(" ".join(words.words))
                new += [] if continued is None else [continued]
                if on_step(row + 1, len(speakers)):
                    raise DecodingStopped(f"stopped by the callback after prompt {row + 1} of {len(speakers)}")
        return SpokenContinuation(audio, self.sample_rate, texts, seeds, continuations=new, settings=units.settings(),
                                  **self.source, weights_licence=self.weights_licence,
                                  faults=[tuple(row) for row in faults])

    # what is read ---------------------------------------------------------------------------------------------------

    def _prompts(self, given: Any) -> list[Voice | str]:
        prompts = list(given) if isinstance(given, list | tuple) else [given]
        if not 1 <= len(prompts) <= MAX_TEXTS_PER_CALL:
            raise ValueError(f"{len(prompts)} prompts given; one call takes 1 to {MAX_TEXTS_PER_CALL}")
        for one in prompts:
            if not isinstance(one, Voice | str):
                raise ValueError(f"a prompt must be a photophone.Voice(audio, sampling_rate, text) or words, got "
                                 f"{one!r:.60}")
            if isinstance(one, Voice) and one.text is None:
                raise ValueError("TASTE needs the words of a recording: Voice(audio, text=...); its authors have them "
                                 "written down by Whisper")
            split_words(one if isinstance(one, str) else one.text)
        return prompts

    def _speaker(self, voice: Voice) -> Tensor:
        """The vector (1, D) of who speaks in a recording."""
        audio = voice_samples(voice, SAMPLE_RATE)
        if len(audio) < LEAST_SAMPLES:
            raise ValueError(f"the voice lasts {len(audio) / SAMPLE_RATE:.2f} s; give a few seconds")
        return self.speaker_encoder(audio)[None].to(self.unit_decoder.device)

    def _known(self, prompt: Voice | str) -> _Words:
        """The words of a prompt, with the codes that a recording has for them."""
        if isinstance(prompt, str):
            return _Words(split_words(prompt), None)
        words, audio = split_words(prompt.text), voice_samples(prompt, SAMPLE_RATE)
        most = 2 * self.tower.config.max_frames * HOP
        if len(audio) > most:
            raise ValueError(f"the recording lasts {len(audio) / SAMPLE_RATE:.1f} s, at most {most / SAMPLE_RATE:g} s "
                             "are heard; give a shorter one")
        cut, device = word_ids(self.word_tokenizer, words), self.tower.device
        mel = self.mel(functional.pad(audio, (0, most - len(audio)))[None]).transpose(1, 2)
        ids, numbers = (torch.tensor([values], device=device) for values in (cut.ids, cut.words))
        read = self.tower(mel.to(device, self.tower.dtype), ids, torch.tensor([len(cut.ids)], device=device), numbers)
        return _Words(words, read.codes[0, cut.begins])

    # what is made ---------------------------------------------------------------------------------------------------

    def _continue(self, known: _Words, seed: int, sampler: ContinuationSampler, faults: list[str]) -> _Words:
        """Words that follow, with their codes."""
        lm, cut = self.spoken_lm, word_ids(self.text_tokenizer, known.words)
        prompt = SpokenPrompt(torch.tensor([cut.ids]), torch.tensor([len(cut.ids)]), _codes_at(cut, known.codes),
                              **self._tables).to(lm.device)
        made = lm.generate(prompt, noise=SeededNoise.from_seeds([seed], lm.device), sampler=sampler)
        ids, codes = made.values[0, 0], made.values[0, 1:].T
        begins = (codes[:, 0] != IGNORED).nonzero()[:, 0]
        if len(ids) >= sampler.max_ids:
            faults.append(f"stopped at the limit of {sampler.max_ids} ids of new text: {' '.join(known.words)!r:.40}")
        return _Words(said_words(self.text_tokenizer, ids.tolist(), begins.tolist()), codes[begins])

    def _speak(self, words: _Words, speaker: Tensor, seed: int, sampler: UnitSampler, faults: list[str]) -> Tensor:
        """Speech (T,) of words."""
        decoder, cut = self.unit_decoder, word_ids(self.word_tokenizer, words.words)
        units = self.tower.quantizer.decode(words.codes.to(self.tower.device)[None])[:, cut.words]
        condition = SpokenWords(torch.tensor([cut.ids]), torch.tensor([len(cut.ids)]), speaker, units)
        tokens = decoder.generate(condition.to(decoder.device), noise=SeededNoise.from_seeds([seed], decoder.device),
                                  sampler=sampler).values[0]
        places = len(cut.ids) + FRONT_PLACES
        text, most = " ".join(words.words), max(1, int(sampler.most_ratio * places))
        faults += token_faults(text, tokens, rate=self.flow.config.token_rate, limit=Limit(most),
                               least=int(sampler.least_ratio * places))
        if not len(tokens):
            return torch.zeros(0)
        sound = self._sound(tokens[None].to(self.flow.device), speaker.to(self.flow.device),
                            generator=torch.Generator().manual_seed(seed))
        audio, listener = torch.from_numpy(sound.audio[0]), Listener(text, self.sample_rate)
        listener.hear(audio)
        faults += listener.faults()
        return audio


def _codes_at(cut: WordIds, codes: Tensor | None) -> Tensor | None:
    """Codes Long (1, N, Q) at the ids that begin a word, of codes (W, Q) of the words."""
    if codes is None:
        return None
    made = codes.new_full((1, len(cut.ids), codes.shape[1]), IGNORED)
    made[0, cut.begins] = codes
    return made


def _check_parts(spoken_lm: TasteSpokenLM, tower: TasteTower, unit_decoder: TasteUnitDecoder, flow: CosyVoiceFlow,
                 text_tokenizer: Any, word_tokenizer: Any) -> None:
    """Refuse parts of different models.

    Raises:
        ValueError: names what differs.
    """
    ours, theirs = spoken_lm.config, tower.config
    sizes = {"codes": ((ours.codebook_size, ours.num_levels), (theirs.codebook_size, theirs.num_levels)),
             "widths of units": (theirs.width, unit_decoder.config.unit_dim),
             "speech tokens": (unit_decoder.config.num_tokens, flow.config.vocab_size),
             "ids of words": (theirs.vocab_size, unit_decoder.config.vocab_size)}
    for what, (one, two) in sizes.items():
        if one != two:
            raise ValueError(f"these are parts of different models: their {what} are {one} and {two}")
    for what, tokenizer, most in (("text_tokenizer", text_tokenizer, ours.vocab_size),
                                  ("word_tokenizer", word_tokenizer, theirs.vocab_size)):
        if len(tokenizer) > most:
            raise ValueError(f"{what} has {len(tokenizer)} ids, its model knows {most}; take the one of its release")
