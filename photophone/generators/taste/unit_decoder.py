"""TASTE's unit decoder: words and their units to the speech tokens of CosyVoice 1, 50 a second.

Paper: TASTE (arXiv 2504.07053), after the language model of CosyVoice (2407.05407). Origin:
github.com/mtkresearch/TASTE-SpokenLM, no licence at its root.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.conditions import Condition
from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.conformer import ConformerEncoder
from photophone.generators.cosyvoice.keys import STACK
from photophone.generators.sampler import Sampler, option, temperature_option
from photophone.generators.taste.fusion import WeightedFusion
from photophone.kernels.sampling import draw_categorical
from photophone.layers.lengths import length_mask
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

CAUSAL = Sight(1)
IGNORED = -1
TEXT_ENCODER = {"dim": 512, "num_heads": 8, "hidden": 2048, "depth": 3}
UNIT_ENCODER = {"dim": 512, "num_heads": 8, "hidden": 2048, "depth": 2}


@dataclass(frozen=True)
class SpokenWords(Condition):
    """Words with their units, and who speaks.

    Args:
        ids: Long (B, N) of Whisper's vocabulary.
        lengths: Long (B,), ids of each row.
        speaker: (B, speaker_dim), of any length but 0.
        units: (B, N, unit_dim), of the tower; None: the words alone.
    """

    ids: Tensor
    lengths: Tensor
    speaker: Tensor
    units: Tensor | None = None

    def check(self, vocab_size: int, speaker_dim: int, unit_dim: int) -> None:
        """Refuse what does not fit.

        Raises:
            ValueError: names what was expected and what came.
        """
        ids, rows = self.ids, len(self.ids)
        if ids.ndim != 2 or ids.dtype != torch.long or not ids.numel():
            raise ValueError(f"ids must be Long (B, N), got {ids.dtype} {tuple(ids.shape)}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            raise ValueError(f"ids must lie in 0..{vocab_size - 1}, got {int(ids.min())}..{int(ids.max())}")
        if self.lengths.shape != (rows,) or not 1 <= int(self.lengths.min()) <= int(self.lengths.max()) <= ids.shape[1]:
            raise ValueError(f"lengths must be Long ({rows},) of 1..{ids.shape[1]}, got {self.lengths.tolist()}")
        if tuple(self.speaker.shape) != (rows, speaker_dim):
            raise ValueError(f"speaker vectors must be ({rows}, {speaker_dim}), got {tuple(self.speaker.shape)}")
        if self.units is not None and tuple(self.units.shape) != (*ids.shape, unit_dim):
            raise ValueError(f"units must be {(*ids.shape, unit_dim)}, got {tuple(self.units.shape)}")


@dataclass(frozen=True)
class UnitSampler(Sampler):
    """Options of :class:`TasteUnitDecoder`."""

    temperature: float = temperature_option()
    top_k: int = option(25, "tokens are drawn from so many likeliest", low=1)
    least_ratio: float = option(2.0, "no end before so many tokens for each place in front", low=0, high=100)
    most_ratio: float = option(20.0, "so many tokens at most for each place in front", low=0.1, high=100)


class TasteUnitDecoder(OriginalCheckpoint, Generator):
    """Words and units to speech tokens Long (B, N).

    Args:
        vocab_size, text_dim: of the words' ids and their embedding.
        unit_dim: width of the units.
        num_tokens: of the speech tokenizer.
        speaker_dim: width of the vector of a speaker.
        text_encoder, unit_encoder: of the causal encoders: dim, num_heads, hidden, depth.
        width, depth, num_heads, hidden: of the transformer.
        normalize: of :class:`photophone.generators.taste.fusion.WeightedFusion`.
        smoothing, per_token: of the loss: share of other tokens; mean over the tokens, else over the rows.
    """

    Condition = SpokenWords
    Sampler = UnitSampler
    DROPPED_KEYS = ("audio_tower.*", "spoken_lm.*")  # the other parts of TASTE

    def __init__(self, vocab_size: int = 51866, text_dim: int = 512, unit_dim: int = 1280, num_tokens: int = 4096,
                 speaker_dim: int = 192, text_encoder: dict = TEXT_ENCODER, unit_encoder: dict = UNIT_ENCODER,
                 width: int = 1024, depth: int = 7, num_heads: int = 8, hidden: int = 4096, normalize: bool = False,
                 smoothing: float = 0.0, per_token: bool = True) -> None:
        super().__init__()
        self.text_embedding = nn.Embedding(vocab_size, text_dim)
        self.text_encoder = ConformerEncoder(text_dim, **text_encoder)
        self.text_proj = nn.Linear(text_encoder["dim"], width)
        self.unit_in = nn.Linear(unit_dim, text_dim)
        self.unit_encoder = ConformerEncoder(text_dim, **unit_encoder)
        self.unit_proj = nn.Linear(unit_encoder["dim"], width)
        self.fusion = WeightedFusion(normalize)
        self.special_embedding = nn.Embedding(2, width)
        self.speech_embedding = nn.Embedding(num_tokens, width)
        self.speaker_proj = nn.Linear(speaker_dim, width)
        self.backbone = ConformerEncoder(width, width, num_heads, hidden, depth, relu=True)
        self.head = nn.Linear(width, num_tokens + 1)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        return rename_keys(state, [
            (r"^speech_decoder\.", ""), (r"^llm\.", "backbone."), (r"^llm_embedding\.", "special_embedding."),
            (r"^llm_decoder\.", "head."), (r"^text_encoder_affine_layer\.", "text_proj."),
            (r"^spk_embed_affine_layer\.", "speaker_proj."), (r"^audio_embed_affine_layer\.", "unit_in."),
            (r"^audio_token_encoder\.", "unit_encoder."), (r"^audio_token_encoder_affine_layer\.", "unit_proj."),
            (r"^fuse_encoded_audio_text_module\.", "fusion."), (r"\.encoders\.(\d+)\.norm([12])\.",
                                                                r".stack.blocks.\1.norm\2."), *STACK])

    @property
    def end(self) -> int:
        """Token behind the speech."""
        return self.config.num_tokens

    def encode_text(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """States (B, N, width) of ids Long (B, N)."""
        mask = length_mask(lengths, ids.shape[1])
        return self.text_proj(self.text_encoder(self.text_embedding(ids), CAUSAL, mask))

    def encode_units(self, units: Tensor, lengths: Tensor) -> Tensor:
        """States (B, N, width) of units (B, N, unit_dim)."""
        mask = length_mask(lengths, units.shape[1])
        return self.unit_proj(self.unit_encoder(self.unit_in(units.to(self.dtype)), CAUSAL, mask))

    def prefixes(self, condition: SpokenWords) -> list[Tensor]:
        """What stands in front of the speech of each row, (P, width): start, speaker, words, task."""
        fused = self.encode_text(condition.ids, condition.lengths)
        if condition.units is not None:
            fused = self.fusion(self.encode_units(condition.units, condition.lengths), fused)
        speakers = self.speaker_proj(F.normalize(condition.speaker.to(self.dtype), dim=1))
        start, task = self.special_embedding.weight
        return [torch.cat([start[None], speaker[None], row[:count], task[None]])
                for speaker, row, count in zip(speakers, fused, condition.lengths.tolist(), strict=True)]

    def logits(self, rows: list[Tensor]) -> Tensor:
        """Logits (B, N, num_tokens + 1) of embedded rows (n, width)."""
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = length_mask(torch.tensor([len(row) for row in rows], device=x.device), x.shape[1])
        return self.head(self.backbone(x, CAUSAL, mask))

    def teacher(self, condition: SpokenWords, tokens: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Embedded rows with their speech, and what each place is to say, Long (B, N), below 0 for nothing."""
        rows, targets = [], []
        for prefix, speech, count in zip(self.prefixes(condition), tokens, lengths.tolist(), strict=True):
            spoken = speech[:count]
            rows.append(torch.cat([prefix, self.speech_embedding(spoken)]))
            targets.append(F.pad(F.pad(spoken, (0, 1), value=self.end), (len(prefix) - 1, 0), value=IGNORED))
        return rows, nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)

    def token_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Divergence in nats of the predictions from the targets, smoothed."""
        counted, smoothing = targets >= 0, self.config.smoothing
        logs = logits[counted].float().log_softmax(dim=-1)
        wanted = torch.full_like(logs, smoothing / (logs.shape[-1] - 1))
        wanted.scatter_(1, targets[counted][:, None], 1 - smoothing)
        total = F.kl_div(logs, wanted, reduction="sum")
        return total / (counted.sum().clamp(min=1) if self.config.per_token else len(logits))

    def loss(self, tokens: Tokens, condition: SpokenWords, *, noise: Noise | None = None) -> LossOutput:
        """See :meth:`token_loss`; ``tokens`` Long (B, N) are those of the speech. Nothing is drawn."""
        rows, targets = self.teacher(condition, tokens.values, tokens.mask.sum(1))
        return LossOutput(self.token_loss(self.logits(rows), targets))

    def check_condition(self, condition: SpokenWords) -> None:
        """See :meth:`SpokenWords.check`."""
        config = self.config
        condition.check(config.vocab_size, config.speaker_dim, config.unit_dim)

    def _generate(self, condition: SpokenWords, *, noise: Noise, sampler: UnitSampler,
                  callback: Callback | None) -> Tokens:
        """Long (B, N). Each step runs all that came before."""
        rows = self.prefixes(condition)
        sizes = torch.tensor([len(row) for row in rows], device=self.device)
        least, most = (sizes * sampler.least_ratio).long(), (sizes * sampler.most_ratio).long().clamp(min=1)
        made = torch.zeros(len(rows), 0, dtype=torch.long, device=self.device)
        done, lengths = torch.zeros_like(sizes, dtype=torch.bool), torch.zeros_like(sizes)
        total = int(most.max())
        for step in range(total):
            logits = self.logits(rows)
            ends = torch.tensor([len(row) - 1 for row in rows], device=self.device)
            last = logits[torch.arange(len(rows)), ends].float()
            pick = self.draw(last.log_softmax(dim=-1), step < least, noise, sampler)
            done = done | (pick == self.end)
            lengths = lengths + ~done
            made = torch.cat([made, torch.where(done, 0, pick)[:, None]], dim=1)
            notify(callback, step + 1, total)
            done = done | (lengths >= most)
            if bool(done.all()):
                break
            rows = [row if ended else torch.cat([row, self.speech_embedding(token)[None]])
                    for row, ended, token in zip(rows, done.tolist(), made[:, -1], strict=True)]
        size = int(lengths.max())
        return Tokens(made[:, :size], None if int(lengths.min()) == size else lengths)

    def draw(self, logs: Tensor, early: Tensor, noise: Noise, sampler: UnitSampler) -> Tensor:
        """Tokens Long (B,) of log-probabilities (B, V); rows in ``early`` bool (B,) do not end yet."""
        hidden = logs.clone()
        hidden[:, self.end] = hidden[:, self.end].masked_fill(early, float("-inf"))
        best = hidden.topk(min(sampler.top_k, hidden.shape[1] - 1), dim=-1)
        if sampler.temperature == 0:
            return best.indices[:, 0]
        place = draw_categorical(best.values / sampler.temperature, noise)
        return best.indices.gather(-1, place[:, None])[:, 0]

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> SpokenWords:
        """Three or four words."""
        generator, config = torch.Generator().manual_seed(seed), self.config
        return SpokenWords(torch.randint(0, config.vocab_size, (rows, 4), generator=generator),
                           torch.tensor([4 - row % 2 for row in range(rows)]),
                           torch.randn(rows, config.speaker_dim, generator=generator),
                           torch.randn(rows, 4, config.unit_dim, generator=generator))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Five or six speech tokens."""
        values = torch.randint(0, self.end, (rows, 6), generator=torch.Generator().manual_seed(seed))
        return Tokens(values, torch.tensor([6 - row % 2 for row in range(rows)]))
