"""`photophone evaluate times`: whether words are said when the voice says that they are, as Whisper hears it.

Words of both sides are put together where they are spelled alike, in order, as in a word error rate. Whisper tells
times by its attention, in steps of 20 ms; the silence before a word, that in front of the speech too, it mostly counts
to the word. Its own error is in what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from photophone.evaluation.metrics.judges import Transcriber
from photophone.evaluation.metrics.spoken_words import spoken_words
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.delayed_streams import TimedWord

SENTENCES = (
    "The first train leaves before the sun is up.", "My brother keeps his bicycle in the kitchen.",
    "Nobody knew why the old clock had stopped.", "We bought apples and a loaf of bread at the market.",
    "She opened the window to let in the evening air.", "The river was too wide to cross without a boat.",
    "His letter arrived three weeks after he did.", "Please leave your wet shoes outside the door.",
    "A small dog followed us all the way home.", "The teacher asked a question that nobody could answer.",
    "There is a hole in the bottom of this bucket.", "They painted the garden fence a bright shade of blue.",
    "I have never seen so many stars in one night.", "The baker gave the children warm rolls for free.",
    "Rain fell on the roof for most of the night.", "Can you hear the wind in the chimney?",
    "The museum closes early on the last day of the month.", "He wrote his name on the cover of the book.",
    "A glass of cold water stood on the table.", "The road to the village follows the edge of the forest.",
    "Her grandmother taught her how to bake this cake.", "The farmer counted his sheep before he went to bed.",
    "We waited an hour for the bus and then we walked.", "The photograph shows a family standing on a beach.",
    "Someone left an umbrella under the seat.", "The soup needs a little more salt and pepper.",
    "Most of the shops are closed on Sunday morning.", "The boat turned slowly and headed for the harbor.",
    "I would like to learn how to play the piano.", "The snow melted before we could build anything.",
    "Two men carried the heavy table up the stairs.", "The doctor told him to drink more water.",
    "Every house on this street has a red door.", "She read the same page over and over again.",
    "The orchestra played until after midnight.", "His answer was short and not very helpful.",
    "The cat sleeps in the basket by the stove.", "We could see the mountains from the top of the tower.",
    "The price of coffee has doubled since last year.", "A strange sound came from the room above us.",
    "He lost his keys somewhere between here and the station.", "The children built a castle out of wet sand.",
    "It takes about ten minutes to walk to the library.", "The old bridge was built without a single nail.",
    "Her first job was in a factory that made paper.", "The moon was bright enough to read by.",
    "They moved to the city when she was seven.", "The captain gave the order to turn back.",
    "You should bring a warm coat and a pair of gloves.", "The last guest went home just before the storm began.")
"""Plain words, so that both sides spell them alike; none of them is in the training data of the voice."""


def match_words(said: Sequence[TimedWord], heard: Sequence[TimedWord]) -> list[tuple[TimedWord, TimedWord]]:
    """Words that both have, in order: pairs of the one that was said and the one that was heard."""
    plain = [[" ".join(spoken_words(word.text)) for word in words] for words in (said, heard)]
    blocks = SequenceMatcher(None, *plain, autojunk=False).get_matching_blocks()
    return [(said[block.a + step], heard[block.b + step]) for block in blocks for step in range(block.size)]


def evaluate_times(pipeline: TextToSpeechPipeline, sentences: Sequence[str] = SENTENCES, *, seed: int = 0,
                   progress: bool = False, **options: Any) -> dict[str, Any]:
    """Speak sentences, and compare when words begin and end with when Whisper hears them.

    Args:
        pipeline: of a voice that tells times.
        sentences: English; sentence i has the seed ``seed + i``.
        progress: show a bar.
        **options: of the calls.

    Returns:
        ``start``, ``end`` and ``both``, each with ``median`` and ``p90`` of the absolute differences in seconds and
        ``shift``, the median of ours less Whisper's; ``words`` said, ``compared``; ``rows`` with both sides
        of each sentence.

    Raises:
        ValueError: the voice tells no times.
    """
    listen = Transcriber()
    rows, differences, said_count = [], {"start": [], "end": []}, 0
    for index, text in enumerate(tqdm(sentences, desc="times", disable=not progress)):
        made = pipeline(text, generator=torch.Generator().manual_seed(seed + index), **options)
        if made.words is None:
            raise ValueError(f"{pipeline.source['model']} does not tell when it says a word")
        said, heard = made.words[0], listen.words(made.audio[0], made.sample_rate)
        pairs = match_words(said, heard)
        for name, found in differences.items():
            found += [getattr(ours, name) - getattr(theirs, name) for ours, theirs in pairs]
        said_count += len(said)
        rows.append({"text": text, "seed": seed + index,
                     "said": [[word.text, word.start, word.end] for word in said],
                     "heard": [[word.text, word.start, word.end] for word in heard]})
    return {**{name: spread(found) for name, found in differences.items()},
            "both": spread(differences["start"] + differences["end"]), "words": said_count,
            "compared": len(differences["start"]), "sentences": len(sentences), "rows": rows}


def spread(differences: list[float]) -> dict[str, float]:
    """Median and ninetieth percentile of the absolute differences, and their median with its sign; NaN of none."""
    if not differences:
        return dict.fromkeys(("median", "p90", "shift"), math.nan)
    size = np.abs(differences)
    return {"median": float(np.median(size)), "p90": float(np.quantile(size, 0.9)), "shift": median(differences)}
