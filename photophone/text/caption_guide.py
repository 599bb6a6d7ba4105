"""Prompts of ordinary people made into captions of the kind that a small model was trained on.

A model that saw thirty thousand captions of the form "automobile, 3d emoji" does not know "a red car on white". The
guide knows the subjects of the training captions with their search words, and the styles. Where a prompt names no style
it finds the subject that fits best and appends a style. It changes nothing else: a prompt with a style stands as it is.

The words come from the training data; :func:`learn_guide` makes the guide, and it is saved beside the vocabulary.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from photophone.core.files import atomic_write
from photophone.core.limits import MAX_VOCABULARY_BYTES
from photophone.core.weight_files import read_json_object
from photophone.text.plain_caption import normalize_caption

FILE = "captions.json"
COLOURS = frozenset([
    "black", "blue", "brown", "gold", "golden", "gray", "green", "grey", "orange", "pink", "purple", "red",
    "silver", "teal", "white", "yellow"])
SAYING_NOTHING = frozenset([
    "a", "an", "any", "beautiful", "big", "cool", "cute", "draw", "drawing", "eight", "few", "five", "four",
    "fresh", "friendly", "funny", "good", "great", "her", "his", "huge", "icon-like", "illustration", "image",
    "juicy", "large", "little", "lovely", "make", "many", "me", "my", "new", "nice", "nine", "old", "one",
    "paint", "painting", "pair", "photo", "photograph", "picture", "please", "pretty", "really", "scary", "seven",
    "several", "show", "simple", "single", "six", "small", "some", "ten", "that", "the", "this", "three", "tiny",
    "two", "very", "want", "your"])
"""Words that no training caption has a picture for."""
MEASURES = frozenset([
    "bit", "bottle", "bowl", "box", "bunch", "cup", "drawing", "glass", "illustration", "image", "kind", "loaf",
    "mug", "pack", "painting", "pair", "photo", "picture", "piece", "plate", "portrait", "slice"])
"""Before "of": what counts is what follows."""
PREPOSITIONS = frozenset([
    "against", "and", "at", "behind", "beside", "by", "for", "from", "in", "into", "near", "of", "on", "over",
    "to", "under", "with", "without"])
TAIL = 0.3
"""Weight of words behind a preposition, against those before it."""
HEAD = 2.0
"""Weight of the last word before a preposition, of which the others say more."""
TAG = 0.6
"""Weight of a word that people search a subject by, against one of its name."""
MISSED = 0.35
"""Weight of the words of a subject that the prompt does not have."""
LEAST_STYLES = 4
"""In which a subject was drawn."""
EVERYDAY = {
    "car": "automobile", "auto": "automobile", "bike": "bicycle", "motorbike": "motorcycle", "plane": "airplane",
    "jet": "airplane", "truck": "delivery truck", "lorry": "delivery truck", "boat": "sailboat", "sailor": "sailboat",
    "bunny": "rabbit", "hare": "rabbit", "kitty": "cat", "kitten": "cat", "puppy": "dog", "ladybug": "lady beetle",
    "ladybird": "lady beetle", "chick": "baby chick", "bee": "honeybee", "smiley": "grinning face",
    "smile": "grinning face", "heart": "red heart", "love": "red heart", "computer": "laptop", "phone": "mobile phone",
    "telephone": "telephone receiver", "tv": "television", "donut": "doughnut", "gift": "wrapped gift",
    "present": "wrapped gift", "coffee": "hot beverage", "tea": "hot beverage", "football": "soccer ball",
    "home": "house", "tree": "deciduous tree", "wristwatch": "watch", "lock": "locked", "glasses": "eyeglasses"}
"""Words of every day, and the subject that people most often mean by each."""


class CaptionGuide:
    """Subjects and styles of training captions.

    Args:
        subjects: search words of each subject, separated by spaces, by its name.
        styles: all of them.
        default_style: for prompts that name none.
        aliases: subjects by words that are no part of their names, such as "car" of "automobile".

    Raises:
        ValueError: a default style that is not among the styles, or no subjects.
    """

    def __init__(self, subjects: dict[str, str], styles: list[str], default_style: str,
                 aliases: dict[str, str] | None = None) -> None:
        if default_style not in styles or not subjects:
            raise ValueError(f"a guide needs subjects, and a default style among its styles, got {default_style!r}")
        self.subjects, self.styles, self.default_style = subjects, styles, default_style
        self.aliases = aliases or {}

    @cached_property
    def index(self) -> dict[str, dict[str, float]]:
        """By each word, the subjects that have it in their name (1) or are searched by it (``TAG``)."""
        found: dict[str, dict[str, float]] = {}
        for subject, tags in self.subjects.items():
            for words, weight in ((tags.split(), TAG), (subject.split(), 1.0)):
                for word in words:
                    found.setdefault(word, {})[subject] = weight
        return found

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each subject: those that were drawn most often come first, and win among equals."""
        return {subject: place for place, subject in enumerate(self.subjects)}

    def caption(self, prompt: str) -> str:
        """A prompt as a caption of the training data; as it is where it names a style, or nothing that is known."""
        text = normalize_caption(prompt)
        if self.names_style(text):
            return prompt
        subject = self.subject(text)
        return prompt if subject is None else f"{subject}, {self.default_style}"

    def names_style(self, text: str) -> bool:
        """Whether a normalised prompt names a style, or a word that several styles have, such as "emoji"; behind a
        comma any word of a style does."""
        counts = Counter(word for style in self.styles for word in set(style.split()))
        shared = {word for word, count in counts.items() if count > 1}
        words = set(re.findall(r"[a-z0-9]+", text))
        last = set(re.findall(r"[a-z0-9]+", text.rpartition(",")[2])) if "," in text else set()
        return any(style in text for style in self.styles) or bool(words & shared or last & set(counts))

    def subject(self, text: str) -> str | None:
        """The subject that fits a normalised prompt best, with a colour that the prompt gives it; None: no word of it
        is known."""
        before, behind = split_phrase(re.findall(r"[a-z0-9'-]+", text), self.known)
        whole = " ".join(before)
        if whole in self.subjects:
            return whole
        told = [set(self.index.get(word, ())) for word in before if word not in COLOURS]
        if len(told) < 2 or not set.intersection(*told):  # no subject has all of the words
            before = [part for word in before for part in (
                [word] if word in self.subjects else self.aliases.get(word, word).split())]
        weights = {word: TAIL for word in behind} | {word: 1.0 for word in before[:-1]} | {
            word: HEAD for word in before[-1:]}
        colours = [word for word in before[:-1] if word in COLOURS]
        scores: Counter[str] = Counter()
        for word, weight in weights.items():
            for subject, share in self.index.get(self.known(word), {}).items():
                scores[subject] += weight * share * self.rarity(self.known(word))
        if not scores:
            return None
        given = {self.known(word) for word in weights}
        for subject in scores:
            words = subject.split()
            scores[subject] -= MISSED * sum(self.rarity(word) for word in words if word not in given)
            scores[subject] += 0.01 * (words[-1] in given) - 1e-6 * self.places[subject]
        best = max(scores, key=scores.__getitem__)
        return " ".join([*(colour for colour in colours if colour not in best.split()), best])

    def known(self, word: str) -> str:
        """A word, or its singular where only that is known."""
        for end, other in (("", ""), ("ies", "y"), ("es", ""), ("s", "")):
            if word.endswith(end) and word[: len(word) - len(end)] + other in self.index:
                return word[: len(word) - len(end)] + other
        return word

    def rarity(self, word: str) -> float:
        """Of a word among the subjects: rare ones say more (inverse document frequency)."""
        return math.log(1 + len(self.subjects) / max(1, len(self.index.get(word, ()))))

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`save` writes."""
        return {"default_style": self.default_style, "styles": self.styles, "aliases": self.aliases,
                "subjects": self.subjects}

    def save(self, folder: Path) -> None:
        """Write the guide into the folder of a vocabulary."""
        with atomic_write(folder / FILE) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The guide of a vocabulary's folder, or None where there is none.

        Raises:
            ValueError: a file that is damaged or holds something else.
        """
        file = folder / FILE
        if not file.is_file():
            return None
        content = read_json_object(file, MAX_VOCABULARY_BYTES)
        subjects, styles, aliases = (content.get(name) for name in ("subjects", "styles", "aliases"))
        texts = isinstance(subjects, dict) and isinstance(styles, list) and isinstance(aliases, dict) and all(
            isinstance(text, str) for text in (*subjects.values(), *styles, *aliases.values(),
                                               content.get("default_style")))
        if not texts:
            raise ValueError(f"{file} is no guide to captions: it must hold default_style, styles, aliases and "
                             "subjects")
        return cls(subjects, styles, content["default_style"], aliases)


def split_phrase(words: list[str], known: Any) -> tuple[list[str], list[str]]:
    """The words of what a prompt shows, and those behind its first preposition; articles and the like are left out.

    Args:
        words: of the prompt.
        known: gives the form of a word that is known.
    """
    while "of" in words[1:-1]:
        place = words.index("of", 1)
        if words[place - 1] not in MEASURES:
            break
        words = words[place + 1:]
    place = next((i for i in range(1, len(words)) if words[i] in PREPOSITIONS or is_doing(words, i)), len(words))
    before = [known(word) for word in words[:place] if word not in SAYING_NOTHING]
    behind = [word for word in words[place:] if word not in SAYING_NOTHING | PREPOSITIONS | COLOURS | {"background"}]
    return before, behind


def is_doing(words: list[str], place: int) -> bool:
    """Whether a word says what the one before it does, as in "horse running"."""
    word = words[place]
    return word.endswith("ing") and len(word) > 5 and words[place - 1] not in SAYING_NOTHING | COLOURS


def learn_guide(rows: Iterable[dict[str, str]], default_style: str, least_styles: int = LEAST_STYLES) -> CaptionGuide:
    """The guide of training captions.

    Args:
        rows: label, style and tags of each image, as of :class:`photophone.data.images.ImageDataset`.
        default_style: for prompts that name none.
        least_styles: in which a subject was drawn.

    Raises:
        ValueError: no subjects, or a default style that no image has.
    """
    seen: dict[str, set[str]] = {}
    tags: dict[str, Counter[str]] = {}
    styles = set()
    for row in rows:
        label = normalize_caption(row["label"])
        styles.add(row["style"])
        if "," in label or "skin tone" in label or re.search(r"\b(light|medium|dark)$", label):
            continue
        seen.setdefault(label, set()).add(row["style"])
        tags.setdefault(label, Counter()).update(set(normalize_caption(row["tags"]).split()))
    kept = [label for label, found in sorted(seen.items(), key=lambda pair: (-len(pair[1]), pair[0]))
            if len(found) >= least_styles]
    subjects = {label: " ".join(sorted(set(tags[label]) - set(label.split()))) for label in kept}
    aliases = {word: label for word, label in EVERYDAY.items() if label in subjects}
    return CaptionGuide(subjects, sorted(styles), default_style, aliases)
