"""What the language models of CosyVoice 1, 2 and 3 share: text to speech tokens, one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, autoregress, collect
from photophone.generators.base import Generator, LossOutput
from photophone.generators.cosyvoice.lm_layout import IGNORED, Layout, accuracy, smoothed_loss
from photophone.generators.cosyvoice.spoken_text import SpeechLMSampler, SpokenText
from photophone.heads.categorical import CategoricalHead, draw_repetition_aware
from photophone.layers.left_padding import pad_left
from photophone.loading.checkpoints import OriginalCheckpoint

MIXED_SHARE = 0.5
"""Of the training sequences that can be mixed."""


class SpeechLM(OriginalCheckpoint, Generator):
    """Text ids, and perhaps a voice, to speech tokens Long (B, N).

    A family has ``vocab_size`` of the text and ``num_tokens`` of the speech in its config and builds
    ``speech_embedding`` and ``token_head``, whose vocabulary has further tokens, from ``num_tokens`` on, that end
    speech.
    """

    Condition = SpokenText
    Sampler = SpeechLMSampler
    streams = True
    mixes: ClassVar[bool] = False
    """It learns and speaks text that comes piece by piece."""

    speech_embedding: nn.Embedding
    token_head: CategoricalHead

    # what differs -----------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """What stands between text and speech."""

    @abstractmethod
    def embed_texts(self, condition: SpokenText) -> list[Tensor]:
        """What stands in front of the text of each row, and the text, embedded (T, C)."""

    @abstractmethod
    def cache(self, rows: int, length: int) -> Any:
        """An empty memory of so many positions."""

    @abstractmethod
    def states(self, x: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Inputs (B, N, C) to states (B, N, C).

        Args:
            mask: bool (B, M), False at padding in front, of these positions and those in the cache.
            cache: of :meth:`cache`; x is appended to it.
        """

    # training ---------------------------------------------------------------------------------------------------

    def mixed_rows(self, count: int, noise: Noise) -> list[bool]:
        """Which of ``count`` rows are trained with text and speech in turns, by the first draws of noise."""
        return (noise.uniform(count) < MIXED_SHARE).tolist() if self.mixes else [False] * count

    def sequences(self, tokens: Tokens, condition: SpokenText, mixed: list[bool],
                  hidden: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, N, C), targets Long (B, N) and mask bool (B, N) of training, padded on the right.

        Args:
            tokens: speech Long (B, S).
            condition: its text; a prompt counts as known speech and is not read here.
            mixed: rows whose text and speech take turns, where they can.
            hidden: bool (B, S), speech that is foretold but not seen.
        """
        layout, inputs, targets = self.layout, [], []
        embedded = self.speech_embedding(tokens.values)
        if hidden is not None:
            embedded = embedded.masked_fill(hidden[..., None], 0)
        front = [0] * len(tokens) if condition.instruction is None else condition.instruction.tolist()
        for row, text in enumerate(self.embed_texts(condition)):
            speech, known = tokens.values[row][tokens.mask[row]], embedded[row][tokens.mask[row]]
            if mixed[row] and layout.can_mix(len(text) - front[row], len(speech)):
                x, target = layout.mixed(text, speech, known, front[row])
            else:
                x, target = layout.whole(text, speech, known)
            inputs.append(x)
            targets.append(target)
        pad = nn.utils.rnn.pad_sequence
        mask = pad([torch.ones(len(x), dtype=torch.bool, device=x.device) for x in inputs], batch_first=True)
        return pad(inputs, batch_first=True), pad(targets, batch_first=True, padding_value=IGNORED), mask

    def loss(self, tokens: Tokens, condition: SpokenText, *, noise: Noise | None = None) -> LossOutput:
        """Smoothed cross-entropy in nats of the speech tokens and of what ends them.

        Args:
            tokens: Long (B, N).
            condition: of the same clips, without prompts.
            noise: decides which rows are mixed, where the family does so.

        Raises:
            ValueError: tokens outside the vocabulary.
        """
        values = tokens.values[tokens.mask]
        if tokens.is_continuous or not len(values) or not 0 <= int(values.min()) <= int(values.max()) < \
                self.config.num_tokens:
            raise ValueError(f"training needs speech tokens Long (B, N) in 0..{self.config.num_tokens - 1}")
        noise = noise or GlobalNoise(tokens.values.device)
        mixed = self.mixed_rows(len(tokens), noise)
        share, hidden = self.config.get("hidden_speech", 0.0), None
        if share and self.training:
            hidden = noise.uniform(*tokens.values.shape) < share
        x, targets, mask = self.sequences(tokens, condition, mixed, hidden)
        learned = targets >= 0  # the vocabulary is large, so nothing is scored in vain
        logits, targets = self.token_head.logits(self.states(x, mask)[learned][None]), targets[learned][None]
        loss = smoothed_loss(logits, targets, self.config.smoothing, self.config.per_token)
        loss = loss if self.config.per_token else loss / len(x)
        return LossOutput(loss, {"accuracy": accuracy(logits, targets).detach()})

    # sampling ---------------------------------------------------------------------------------------------------

    def check_condition(self, condition: SpokenText) -> None:
        """Ids of the vocabularies, text in every row, vectors of the model's width."""
        condition.check(self.config.vocab_size, self.config.num_tokens, self.config.get("speaker_dim"))

    def prefixes(self, condition: SpokenText) -> list[Tensor]:
        """What stands in front of the first new token of each row, (L, C)."""
        layout = self.layout
        return [torch.cat([layout.start, text, layout.task, self.speech_embedding(prompt)]) for text, (_, prompt) in
                zip(self.embed_texts(condition), condition.rows(), strict=True)]

    def pick(self, scores: Tensor, history: Tensor, noise: Noise, sampler: SpeechLMSampler) -> Tensor:
        """The next token of each row, Long (B,), of log-probabilities (B, V) and the tokens so far, Long (B, T)."""
        return draw_repetition_aware(scores, history, noise, top_p=sampler.top_p, top_k=sampler.top_k,
                                     window=sampler.window, share=sampler.share)

    def scores(self, states: Tensor) -> Tensor:
        """Log-probabilities (B, V) behind states (B, N, C)."""
        return self.token_head.logits(states[:, -1:])[:, 0].log_softmax(dim=-1)

    def stops(self, tokens: Tensor) -> Tensor:
        """Where tokens end speech, bool of their shape."""
        return tokens >= self.config.num_tokens

    def embed_next(self, tokens: Tensor) -> Tensor:
        """Tokens Long (B,) as the next input (B, 1, C); rows that have ended go on with anything."""
        return self.speech_embedding(tokens.masked_fill(self.stops(tokens), 0))[:, None]

    def limits(self, condition: SpokenText, sampler: SpeechLMSampler) -> tuple[Tensor, Tensor]:
        """Tokens that each row has at least and at most, Long (B,)."""
        said = condition.said_counts.double()
        most = (said * sampler.max_ratio).long().clamp(min=1)
        return torch.minimum((said * sampler.min_ratio).long(), most), most

    def _generate(self, condition: SpokenText, *, noise: Noise, sampler: SpeechLMSampler,
                  callback: Callback | None) -> Tokens:
        steps = list(self._steps(condition, noise, sampler, callback))
        if not steps:
            return Tokens(condition.text[:, :0], torch.zeros(len(condition), dtype=torch.long, device=self.device))
        return Tokens(*collect(iter(steps)))

    def _stream(self, condition: SpokenText, *, noise: Noise, sampler: SpeechLMSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Tokens (B, 1) with lengths 1, or 0 for rows that have ended."""
        for values, alive in self._steps(condition, noise, sampler, callback):
            yield Tokens(values, alive.long())

    def _steps(self, condition: SpokenText, noise: Noise, sampler: SpeechLMSampler,
               callback: Callback | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens (B, 1), and bool (B,), True for rows that have not ended."""
        x, mask = pad_left(self.prefixes(condition))
        least, most = self.limits(condition, sampler)
        count = self.config.num_tokens
        self.check_room(x.shape[1], int(most.max()))
        cache = self.cache(len(x), x.shape[1] + int(most.max()))
        history = condition.text[:, :0]

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal x, mask, history
            if previous is not None:
                x = self.embed_next(previous[:, 0])
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            scores = self.scores(self.states(x, mask, cache))
            early = (index < least)[:, None]
            last = None if sampler.all_stops else count + 1
            scores[:, count:last] = scores[:, count:last].masked_fill(early, float("-inf"))
            picked = self.pick(scores, history, noise, sampler)
            history = torch.cat([history, picked[:, None]], dim=1)
            return picked[:, None]

        def stop(index: int, values: Tensor) -> Tensor:
            return self.stops(values[:, 0]) | (index + 1 >= most)

        for values, going in autoregress(step, int(most.max()), stop=stop, callback=callback):
            ended = self.stops(values)
            alive = going & ~ended[:, 0]
            if alive.any():
                yield values.masked_fill(ended, 0), alive

    def check_room(self, length: int, steps: int) -> None:
        """Refuse a sequence that the model has no positions for.

        Raises:
            ValueError: names both and the limit.
        """
        if length + steps > self.config.max_length:
            raise ValueError(f"{length} positions of text and voice and up to {steps} of speech do not fit the model's "
                             f"{self.config.max_length}; shorten the text or the voice, or lower max_ratio")

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> SpokenText:
        """Texts of different lengths, two of three with speech to continue."""
        config, generator = self.config, torch.Generator().manual_seed(seed)
        texts = [torch.randint(config.vocab_size, (2 + row % 3,), generator=generator).tolist() for row in range(rows)]
        prompts = [torch.randint(config.num_tokens, (row % 3,), generator=generator) for row in range(rows)]
        width = config.get("speaker_dim")
        speaker = None if width is None else torch.randn(rows, width, generator=generator)
        return SpokenText.of_rows(texts, prompts=prompts, speaker=speaker)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Speech of five to seven tokens."""
        shape, generator = (rows, 7), torch.Generator().manual_seed(seed)
        values = torch.randint(self.config.num_tokens, shape, generator=generator)
        return Tokens(values, torch.tensor([7 - row % 3 for row in range(rows)]))
