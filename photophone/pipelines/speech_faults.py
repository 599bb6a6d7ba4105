"""What goes wrong when a language model speaks, as far as its tokens tell: speech without end, gaps, loops."""

from __future__ import annotations

from torch import Tensor

LOOP_SECONDS, LOOP_TIMES = 2.0, 3
"""Speech that repeats itself at least so long, and so often, is a loop."""
LONGEST_PERIOD = 2.0
"""Seconds of what a loop repeats."""


def token_faults(text: str, tokens: Tensor, *, rate: float, least: int, most: float) -> list[str]:
    """Faults of the speech of a text, in words; none where it went well.

    Args:
        text: what was to be said.
        tokens: Long (N,), what was written, without what ends it.
        rate: tokens a second.
        least: fewer tokens cannot say the text.
        most: the limit at which the speech was cut.
    """
    count, what = len(tokens), f"{text!r:.40}"
    if not count:
        return [f"made no speech: {what}"]
    faults = []
    if count >= most:
        faults.append(f"stopped at the limit of {most} tokens: {what}")
    elif count < least:
        faults.append(f"ended after {count} tokens, which cannot hold all words ({least} are the least): {what}")
    seconds = loop_length(tokens, rate) / rate
    if seconds:
        faults.append(f"repeats itself for {seconds:.1f} s, a loop or silence: {what}")
    return faults


def loop_length(tokens: Tensor, rate: float) -> int:
    """Tokens of the longest stretch of Long (N,) that repeats itself, 0 if there is no loop."""
    longest = 0
    for period in range(1, min(round(LONGEST_PERIOD * rate), len(tokens) // LOOP_TIMES) + 1):
        differ = (tokens[period:] != tokens[:-period]).nonzero()[:, 0].tolist()
        ends = [-1, *differ, len(tokens) - period]
        stretch = period + max(after - before - 1 for before, after in zip(ends, ends[1:]))
        if stretch >= max(LOOP_TIMES * period, LOOP_SECONDS * rate):
            longest = max(longest, stretch)
    return longest
