"""What reads written English best: photophone's rules, hibari-tts alone, and grammars before it, on one list.

``python benchmarks/front_ends.py`` measures every front end that is installed (``pip install wetext``,
``pip install nemo-text-processing``) on ``tests/text/forms`` and prints a table. Forms count as read when they sound
like one of their readings; homographs by the phonemes of the word. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tables import markdown  # noqa: E402

from photophone.evaluation.metrics.readings import misread, read_forms  # noqa: E402
from photophone.text.phonemes import phonemize  # noqa: E402
from photophone.text.speech_text import speech_pieces  # noqa: E402


class GRAMMARS:
    """Where NeMo keeps its compiled grammars; None: they are compiled each time."""

    folder: str | None = None


FORMS = Path(__file__).parents[1] / "tests" / "text" / "forms"


def ours() -> Callable[[str], str]:
    """The rules of this package."""
    return lambda text: " ".join(piece.phonemes for piece in speech_pieces(text))


def hibari() -> Callable[[str], str]:
    """The reader alone, with its own rules for numbers and dates."""
    return phonemize


def wetext() -> Callable[[str], str]:
    """Finite-state grammars of WeTextProcessing, before the reader."""
    from wetext import Normalizer

    normalizer = Normalizer(lang="en", operator="tn")
    return lambda text: phonemize(normalizer.normalize(text))


def nemo() -> Callable[[str], str]:
    """Finite-state grammars of NVIDIA's NeMo, before the reader."""
    from nemo_text_processing.text_normalization.normalize import Normalizer

    normalizer = Normalizer(input_case="cased", lang="en", cache_dir=GRAMMARS.folder)
    return lambda text: phonemize(normalizer.normalize(text))


FRONT_ENDS = {"photophone": (ours, None), "hibari-tts": (hibari, None), "wetext": (wetext, "wetext"),
              "nemo-text-processing": (nemo, "nemo_text_processing")}


def said_rightly(read: Callable[[str], str]) -> float:
    """Share of the sentences with a homograph whose word sounds as it must."""
    rows = [line.split("\t") for line in (FORMS / "homographs.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    return sum(has_word(read(sentence), phonemes) for _, phonemes, sentence in rows) / len(rows)


def has_word(reading: str, phonemes: str) -> bool:
    """Whether a word of a reading has these phonemes; stress does not count."""
    bare = str.maketrans("", "", "ˈˌ.,?!")
    return phonemes.translate(bare) in reading.translate(bare).split()


def measure(name: str) -> dict[str, float | str]:
    """Shares of the list, of prose and of homographs, seconds to the first reading, milliseconds a sentence."""
    make, _ = FRONT_ENDS[name]
    phonemize("Warm.")
    started = time.process_time()
    read = make()
    read("It is 5 km to St. Ives.")
    start = time.process_time() - started
    forms, prose = read_forms(FORMS / "written_forms.tsv"), read_forms(FORMS / "prose.tsv")
    wrong, wrong_prose = misread(forms, read), misread(prose, read)
    started = time.process_time()
    for form in prose:
        read(form.written)
    each = (time.process_time() - started) / len(prose)
    return {"front end": name, "written forms %": 100 - 100 * sum(map(len, wrong.values())) / len(forms),
            "prose %": 100 - 100 * sum(map(len, wrong_prose.values())) / len(prose),
            "homographs %": 100 * said_rightly(read), "start (s)": start, "a sentence (ms)": 1000 * each,
            "kinds": {kind: len(rows) for kind, rows in wrong.items()}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the misread forms of each kind too")
    parser.add_argument("--grammars", help="folder for NeMo's compiled grammars; else they are compiled each time")
    options = parser.parse_args()
    GRAMMARS.folder = options.grammars
    rows = [measure(name) for name, (_, module) in FRONT_ENDS.items()
            if module is None or importlib.util.find_spec(module)]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    columns = [column for column in rows[0] if column != "kinds"]
    print(markdown((columns, [[row[column] if isinstance(row[column], str) else f"{row[column]:.1f}"
                              for column in columns] for row in rows])))


if __name__ == "__main__":
    main()
