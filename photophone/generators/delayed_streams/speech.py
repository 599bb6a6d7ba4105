"""Text to speech with delayed streams as a generator: words and a voice to codes of speech.

Paper: arXiv 2509.08753. Official code: kyutai-labs/moshi, MIT. Weights: CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import LossOutput
from photophone.generators.delayed_streams.conditioners import Attributes
from photophone.generators.delayed_streams.model import NEW_WORD, PADDING, ZERO, DelayedStreams
from photophone.generators.delayed_streams.script import WordMachine
from photophone.generators.delayed_streams.script_condition import SpeakingSampler, SpokenScript
from photophone.generators.delayed_streams.speaking import Speaking

GUIDANCE = "cfg"
"""The condition by which distilled models are told the strength of guidance."""
GOOD = "ok"
"""The word of conditions that tell how good a recording was."""


class DelayedSpeech(DelayedStreams):
    """Words and a voice to codes of speech Long (B, Q, T), one frame after the other.

    The model says when it wants the next word. It has to take one after a number of frames, so speech ends: no text is
    too long, and every frame costs the same, for the model sees a window of frames. A row depends on its own words,
    voice and noise only.
    """

    Condition = SpokenScript
    Sampler = SpeakingSampler

    @property
    def voice_name(self) -> str | None:
        """The condition that is frames of voices, or None."""
        return next((name for name, one in self.conditioners.items() if one.words is None), None)

    @property
    def voice_dim(self) -> int:
        """Channels of such frames, or 0."""
        name = self.voice_name
        return 0 if name is None else self.conditioners[name].output_proj.in_features

    @property
    def distilled(self) -> bool:
        """Whether the model is told the strength of guidance, in place of computing each frame twice."""
        return GUIDANCE in self.conditioners

    def check_condition(self, condition: SpokenScript) -> None:
        """Words of the vocabulary and frames of a voice."""
        condition.check(self.config.text_card, self.voice_dim)
        condition.check_prefix(self.spoken_books, self.config.card)

    def check_guidance(self, scale: float) -> None:
        """Refuse a strength that a distilled model was not taught.

        Raises:
            ValueError: names those that it was.
        """
        if self.distilled and f"{scale:.1f}" not in self.conditioners[GUIDANCE].words or \
                self.distilled and float(f"{scale:.1f}") != scale:
            raise ValueError(f"guidance_scale must be one of {', '.join(self.conditioners[GUIDANCE].words)} for this "
                             f"model, which was distilled with these, got {scale:g}")

    def attributes(self, condition: SpokenScript, scale: float) -> list[Attributes]:
        """The conditions of each row."""
        self.check_guidance(scale)
        words = {name: f"{scale:.1f}" if name == GUIDANCE else GOOD if GOOD in one.words else None
                 for name, one in self.conditioners.items() if one.words is not None}
        voices = [] if self.voice_name is None else [self.voice_name]
        return [{**words, **dict.fromkeys(voices, (frames, mask))}
                for frames, mask in zip(condition.frames, condition.mask, strict=True)]

    def _generate(self, condition: SpokenScript, *, noise: Noise, sampler: SpeakingSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, Q, T) of the longest row."""
        parts = list(self._stream(condition, noise=noise, sampler=sampler, callback=callback))
        made, going = torch.cat([part.values for part in parts], dim=-1), torch.stack([part.lengths for part in parts])
        rows = [row[:, keep].T for row, keep in zip(made, going.bool().T, strict=True)]
        return Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2), going.sum(dim=0))

    def _stream(self, condition: SpokenScript, *, noise: Noise, sampler: SpeakingSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Codes Long (B, Q, 1) with lengths 1, or 0 for rows that have ended or whose recording is still heard; the
        callback counts words."""
        run, prefixes = self.speaking(sampler), condition.prefixes()
        heard = [0] * len(condition) if prefixes is None else [codes.shape[1] for codes in prefixes]
        words = condition.words()
        total, told = sum(map(len, words)), 0
        attributes = self.attributes(condition, sampler.guidance_scale)
        late = run.delay + sampler.final_padding - max(self.delays)
        for index, frame in enumerate(run.frames(words, attributes, noise, prefixes)):
            begun = sum(len(reading.begun) for reading in run.readings)
            for step in range(told + 1, begun + 1):
                notify(callback, step, total)
            told = begun
            if index >= run.delay + min(heard):
                going = [index >= run.delay + count and (reading.end is None or index < reading.end + late)
                         for count, reading in zip(heard, run.readings)]
                lengths = torch.tensor(going, device=self.device).long()
                yield Tokens(frame[:, 1:, None] * lengths[:, None, None], lengths)  # padding is 0, as in a call

    def speaking(self, sampler: SpeakingSampler) -> Speaking:
        """A run with these options."""
        machine = WordMachine(self.config.text_card + 1, self.config.words_ahead or 0, sampler.max_padding,
                              sampler.initial_padding)
        return Speaking(self, machine, self.config.speech_delay or 0, temperature=sampler.temperature,
                        guidance=1.0 if self.distilled else sampler.guidance_scale,
                        final_padding=sampler.final_padding, max_frames=None, padding_bonus=sampler.padding_bonus,
                        keeps_said=False)

    def loss(self, tokens: Tokens, condition: SpokenScript, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of when words begin, and that of the codebooks as weighted; not of the authors, whose code of
        training is not published.

        Args:
            tokens: Long (B, 1 + Q, T), text as the model is fed and codes, not delayed; speech follows the text by
                the model's delay, and its codes are -1 before it begins.
            condition: voices; the words are those of the tokens.
            noise: unused.
        """
        conditions = self.conditioners.conditions(self.attributes(condition, 1.0))
        unheard = tokens.values.new_full((len(tokens), self.heard_books, tokens.num_tokens), ZERO)
        return self.losses(tokens, self.word_begins(tokens.values[:, :1]), unheard, conditions)

    def word_begins(self, text: Tensor) -> Tensor:
        """Text as the model is fed, Long (...), to what it should have asked for: a word, or nothing."""
        told = text // (self.config.text_card + 1) - 1 if self.config.two_texts else text
        return torch.where(told == NEW_WORD, NEW_WORD, PADDING)

    def example_condition(self, rows: int, seed: int = 0) -> SpokenScript:
        """Texts of different lengths, breaks, and voices or what was said before."""
        generator = torch.Generator().manual_seed(seed)
        texts, voices = [], []
        for row in range(rows):
            counts = torch.randint(1, 4, (2 + row % 3,), generator=generator).tolist()
            texts.append([(torch.randint(PADDING + 1, self.config.text_card, (count,), generator=generator).tolist(),
                           count) for count in counts])
            texts[-1].insert(1, ((), 2))
            mask = torch.arange(6) < 6 - row % 3
            voices.append((torch.randn(6, self.voice_dim, generator=generator) * mask[:, None], mask))
        prefixes = None if self.voice_name is not None else [
            torch.randint(self.config.card, (self.spoken_books, 3 + row % 2), generator=generator)
            for row in range(rows)]
        return SpokenScript.of_rows(texts, voices, prefixes)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Text and codes, speech after its delay."""
        generator, delay = torch.Generator().manual_seed(seed), self.config.speech_delay or 0
        length, base = delay + 8, self.config.text_card + 1
        text = torch.randint(self.config.text_card, (rows, 1, length), generator=generator)
        if self.config.two_texts:
            ahead = torch.randint(-1, self.config.text_card, text.shape, generator=generator)
            text = (torch.where(torch.rand(text.shape, generator=generator) < 0.3, NEW_WORD, ahead) + 1) * base + text
        codes = torch.randint(self.config.card, (rows, self.spoken_books, length), generator=generator)
        codes[..., :delay] = ZERO
        return Tokens(torch.cat([text, codes], dim=1))
