"""Train a small CosyVoice 2 or Spark-TTS from sentences, all its parts, and write it in the authors' layout.

Each stage is done when its result is there, and a run that was stopped goes on, so the same command continues. The
sentences are a .csv with the columns text, phonemes and split, spoken by the voice of hibari-tts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from photophone.core.command import run_command
from photophone.data.audio import write_audio
from photophone.evaluation.tasks.speech import read_test_sentences
from photophone.training.cosyvoice_chain import CosyVoiceChain
from photophone.training.spark_chain import SparkChain
from photophone.training.speech_chain import SpeechChain, hear_words

SCRIPTS = Path(__file__).parent
CONFIGS = SCRIPTS.parent / "configs"
CHAINS = {"cosyvoice2": CosyVoiceChain, "spark-tts": SparkChain}


def train(chain: SpeechChain, part: str, overrides: list[str]) -> None:
    """Train a part to the end of its settings, from where it stands, in a process of its own: precision is chosen once.

    Raises:
        SystemExit: what the training ended with, when it did not reach its end.
    """
    script = "train_codec.py" if part in chain.codecs else "train_tts.py"
    command = [sys.executable, str(SCRIPTS / script), "--config", str(CONFIGS / f"{chain.configs}_{part}.yaml"),
               "--output", str(chain.folder / part), "--resume", *chain.settings(part), *overrides]
    ended = subprocess.run(command, check=False).returncode
    if ended:
        sys.exit(ended)


def evaluate(chain: SpeechChain, sentences: Path, count: int, options: dict) -> None:
    """Say test sentences through the public pipeline, print what Whisper base understands, and keep the clips."""
    speak, spoken = chain.voice(**options), []

    def keep(text: str) -> tuple[np.ndarray, int]:
        spoken.append(speak(text))
        return spoken[-1]

    result = hear_words(keep, read_test_sentences(sentences, "test", count))
    for index, (audio, rate) in enumerate(spoken):
        write_audio(chain.folder / "spoken" / f"{index:03d}.wav", audio, rate)
    for row in result["rows"]:
        print(f"{row['errors']:3d} of {row['words']:2d}  {row['text']}\n           {row['heard']}")
    print(f"WER {100 * result['wer']:.1f} % on {len(spoken)} test sentences, {result['seconds']:.1f} s of speech, "
          f"real-time factor {result['real_time_factor']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=CHAINS, help="whose parts and layout")
    parser.add_argument("sentences", type=Path, help="the .csv")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of everything")
    parser.add_argument("--stages", nargs="+", help="those to do (default: all)")
    parser.add_argument("--mixed", type=int, default=0, metavar="COUNT",
                        help="further sentences for the language model, mixed of parts of others (default 0)")
    parser.add_argument("--words", type=Path, help="a list, one a line, whose words stand in the mixed sentences")
    parser.add_argument("--count", type=int, default=20, help="test sentences to evaluate on (default 20)")
    parser.add_argument("--transcript", action="store_true", help="evaluate cosyvoice2 with the words of the voice's "
                                                                  "recording, which is then continued")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings that replace the YAML's")
    arguments = parser.parse_args()
    chain = CHAINS[arguments.system](arguments.output)
    known = ("data", *chain.stages, "folder", "evaluate")
    if not set(arguments.stages or ()) <= set(known):
        parser.error(f"--stages of {arguments.system} are {', '.join(known)}, got {', '.join(arguments.stages)}")
    if arguments.transcript and arguments.system != "cosyvoice2":
        parser.error("--transcript is for cosyvoice2")
    for stage in arguments.stages or known:
        print(f"{stage} ...", flush=True)
        if stage == "data":
            chain.make_speech(arguments.sentences)
            if arguments.mixed:
                chain.mix_speech(arguments.sentences, arguments.mixed, arguments.words)
        elif stage == "folder":
            chain.write_release()
        elif stage == "evaluate":
            evaluate(chain, arguments.sentences, arguments.count,
                     {"transcript": True} if arguments.transcript else {})
        elif stage in (*chain.codecs, *chain.models):
            train(chain, stage, arguments.set)
        else:
            chain.make(stage)


if __name__ == "__main__":
    run_command(main)
