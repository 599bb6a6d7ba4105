"""Text as CosyVoice 1 reads it: ids of Whisper's vocabulary, or of one of the authors' that grew from it.

Both are published as ranks of byte sequences (``.tiktoken``): of two neighbours the pair whose joined bytes have the
lowest rank is joined first. Here they become a tokenizer of transformers that gives the same ids, so it is saved and
loaded like the others.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING

from photophone.core.limits import MAX_VOCABULARY_BYTES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUFFIX = ".tiktoken"
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""Where text is cut before neighbours are joined, as GPT-2 has it."""
LANGUAGES = """
en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy
sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo
uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue
"""
DIALECTS = ["minnan", "wuyu", "dialect", "zh/en", "en/zh"]
EVENTS = ["ASR", "AED", "SER", "Speech", "/Speech", "BGM", "/BGM", "Laughter", "/Laughter", "Applause", "/Applause",
          "HAPPY", "SAD", "ANGRY", "NEUTRAL"]
TASKS = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
VOCAL = ["TTS/B", "TTS/O", "TTS/Q", "TTS/A", "TTS/CO", "TTS/CL", "TTS/H",
         *(f"TTS/SP{index:02d}" for index in range(1, 14))]
TIMES = [f"{index * 0.02:.2f}" for index in range(1501)]


def special_tokens(events: bool) -> list[str]:
    """Tokens behind the ranks, in the order of their ids.

    Args:
        events: of the vocabulary of CosyVoice 1 at 25 Hz, which knows dialects and events; else of Whisper's.
    """
    spare = [f"SPECIAL_TOKEN_{index}" for index in range(1, 31)]
    names = ["endoftext", "startoftranscript", *LANGUAGES.split(), *(DIALECTS + EVENTS if events else []), *TASKS,
             *(spare + VOCAL if events else []), *TIMES]
    return [f"<|{name}|>" for name in names]


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Byte sequences and their ranks 0, 1, ... of a ``.tiktoken`` file: a line each, base64 and number.

    Raises:
        ValueError: it cannot be read, or is none; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such vocabulary: {path}")
    if path.stat().st_size > MAX_VOCABULARY_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; at most {MAX_VOCABULARY_BYTES} are read")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            word, rank = line.split()
            ranks[b"" if word == b"=" else base64.b64decode(word, validate=True)] = int(rank)  # the last one of Whisper
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"{path} is no {SUFFIX} vocabulary: line {number} is {line[:40]!r}, not base64 and a "
                             "number") from error
    if sorted(ranks.values()) != list(range(len(ranks))) or not all(bytes([byte]) in ranks for byte in range(256)):
        raise ValueError(f"{path} is no whole {SUFFIX} vocabulary: its ranks must be 0 to {len(ranks) - 1}, and every "
                         "byte must have one")
    return ranks


def merges_of(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """All pairs of known sequences that join to a known one, in the order in which they are joined."""
    pairs = []
    for whole, rank in ranks.items():
        for place in range(1, len(whole)):
            first, second = whole[:place], whole[place:]
            if first in ranks and second in ranks:
                pairs.append((rank, ranks[first], ranks[second], first, second))
    return [pair[3:] for pair in sorted(pairs)]


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in vocabularies of bytes, as GPT-2 has it."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def ranked_tokenizer(path: str | Path, vocab_size: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a ``.tiktoken`` file with those special tokens that make up ``vocab_size`` ids.

    Raises:
        ValueError: see :func:`read_ranks`; or it is the vocabulary of another model.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ranks = read_ranks(path)
    sizes = {len(ranks) + len(special_tokens(events)): events for events in (False, True)}
    if vocab_size not in sizes:
        raise ValueError(f"{path} is the vocabulary of another model: with special tokens it has "
                         f"{' or '.join(map(str, sizes))} ids, this model {vocab_size}")
    letters = byte_letters()

    def spelled(word: bytes) -> str:
        return "".join(letters[byte] for byte in word)

    # words that are in the vocabulary as a whole are not put together of parts
    model = models.BPE({spelled(word): rank for word, rank in ranks.items()},
                       [(spelled(first), spelled(second)) for first, second in merges_of(ranks)], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in special_tokens(sizes[vocab_size])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def load_whisper_tokenizer(source: str | Path, vocab_size: int, **hub: object) -> PreTrainedTokenizerBase:
    """The vocabulary that CosyVoice 1 reads text with.

    Args:
        source: a ``.tiktoken`` file, a folder that holds one, or a folder or hub id of a Whisper model of transformers.
        vocab_size: ids of the language model.
        hub: see :func:`photophone.text.voxcpm.load_tokenizer`.

    Raises:
        ValueError: there is none, or one of another size.
    """
    from photophone.text.voxcpm import load_tokenizer

    path = Path(source)
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path] if path.suffix == SUFFIX else []
    if files:
        return ranked_tokenizer(files[0], vocab_size)
    tokenizer = load_tokenizer(source, **hub)
    if len(tokenizer) != vocab_size:
        raise ValueError(f"{source} has a vocabulary of {len(tokenizer)} ids, the model one of {vocab_size}; give "
                         f"text_tokenizer= the {SUFFIX} file that it was trained with")
    return tokenizer
