"""Training sequences of CosyVoice's language models: text first, or text and speech in turn (arXiv 2412.10117)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -1
"""Target of positions that are not learned."""


@dataclass(frozen=True)
class Layout:
    """What stands between text and speech.

    Args:
        start, task: embeddings (1, C) in front of the text and in front of the speech.
        end, fill: tokens behind all speech, and behind speech that more text follows.
        mix: ids of text and tokens of speech that take turns.
    """

    start: Tensor
    task: Tensor
    end: int
    fill: int
    mix: tuple[int, int] = (5, 15)

    def whole(self, text: Tensor, tokens: Tensor, speech: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, C) and targets Long (N,): all text, then all speech.

        Args:
            text: embedded ids (T, C), with all that stands in front of them.
            tokens: speech Long (S,).
            speech: the same, embedded (S, C).
        """
        known = tokens.new_full((1 + len(text),), IGNORED)
        return (torch.cat([self.start, text, self.task, speech]),
                torch.cat([known, tokens, tokens.new_tensor([self.end])]))

    def mixed(self, text: Tensor, tokens: Tensor, speech: Tensor,
              instruction: int = 0) -> tuple[Tensor, Tensor]:
        """The same in turns; the first ``instruction`` ids stand in front of them.

        The last group has what is left of the text, at least nothing, and all that is left of the speech.
        """
        front, text = text[:instruction], text[instruction:]
        width, length = self.mix
        inputs, targets = [self.start, front], [tokens.new_full((1 + instruction,), IGNORED)]
        full = len(text) // width
        for group in range(full):
            part = slice(group * length, (group + 1) * length)
            inputs += [text[group * width:(group + 1) * width], speech[part]]
            targets += [tokens.new_full((width - 1,), IGNORED), tokens[part], tokens.new_tensor([self.fill])]
        rest = slice(full * length, None)
        inputs += [text[full * width:], self.task, speech[rest]]
        targets += [tokens.new_full((len(text) - full * width,), IGNORED), tokens[rest], tokens.new_tensor([self.end])]
        return torch.cat(inputs), torch.cat(targets)

    def can_mix(self, text: int, tokens: int) -> bool:
        """Whether so many ids and tokens can take turns: there is speech for every turn."""
        return text > 0 and tokens / text > self.mix[1] / self.mix[0]


def smoothed_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0, per_token: bool = True) -> Tensor:
    """Divergence of the predictions from targets that leave a share for all other tokens, in nats.

    Args:
        logits: (B, N, V).
        targets: Long (B, N), below 0 where nothing is learned.
        smoothing: the share, spread evenly over the V - 1 others.
        per_token: mean over the tokens that are learned; else the sum over the rows' number.
    """
    counted = targets >= 0
    if smoothing:
        logs = logits[counted].float().log_softmax(dim=-1)  # (M, V)
        wanted = torch.full_like(logs, smoothing / (logs.shape[-1] - 1))
        wanted.scatter_(1, targets[counted][:, None], 1 - smoothing)
        total = F.kl_div(logs, wanted, reduction="sum")
    else:
        total = F.cross_entropy(logits[counted].float(), targets[counted], reduction="sum")
    return total / (counted.sum().clamp(min=1) if per_token else len(logits))


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of learned tokens that are the likeliest."""
    counted = targets >= 0
    return (logits.argmax(dim=-1) == targets)[counted].float().mean()


def mean_log_probs(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean log-probability (B,) of targets Long (B, N) where mask (B, N) is True; targets below 0 count as 0."""
    logs = logits.float().log_softmax(dim=-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (logs * mask).sum(dim=-1) / mask.sum(dim=-1)


def preference_loss(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *,
                    beta: float, smoothing: float = 0.0, squared: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Direct preference optimisation (DPO, arXiv 2305.18290) of log-probabilities (B,).

    Args:
        chosen, rejected: of the model that is trained.
        reference_chosen, reference_rejected: of the model that it began as.
        beta: how much it may differ from that one.
        smoothing: share of pairs whose preference is taken to be wrong.
        squared: the loss of IPO (arXiv 2310.12036).

    Returns:
        The loss, and the rewards (B,) of chosen and rejected speech.
    """
    margin = (chosen - rejected) - (reference_chosen - reference_rejected)
    if squared:
        losses = (margin - 1 / (2 * beta)).square()
    else:
        losses = -F.logsigmoid(beta * margin) * (1 - smoothing) - F.logsigmoid(-beta * margin) * smoothing
    return losses.mean(), beta * (chosen - reference_chosen).detach(), beta * (rejected - reference_rejected).detach()
