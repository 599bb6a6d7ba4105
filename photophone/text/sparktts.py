"""Prompts of Spark-TTS: strings of added tokens around text, and what its answers hold (arXiv 2503.01710)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("very_low", "low", "moderate", "high", "very_high")
GENDERS = ("female", "male")
AGES = ("Child", "Teenager", "Youth-Adult", "Middle-aged", "Elderly")
EMOTIONS = ("UNKNOWN", "NEUTRAL", "ANGRY", "HAPPY", "SAD", "FEARFUL", "DISGUSTED", "SURPRISED", "SARCASTIC", "EXCITED",
            "SLEEPY", "CONFUSED", "EMPHASIS", "LAUGHING", "SINGING", "WORRIED", "WHISPER", "ANXIOUS", "NO-AGREEMENT",
            "APOLOGETIC", "CONCERNED", "ENUNCIATED", "ASSERTIVE", "ENCOURAGING", "CONTEMPT")
TASKS = {"vc": "vc", "tts": "tts", "asr": "asr", "s2s": "s2s", "t2s": "t2s", "understand": "understand",
         "caption": "cap", "controllable_tts": "controllable_tts", "prompt_tts": "prompt_tts", "speech_edit": "edit"}
WORDS = {"gender": ("gender", GENDERS), "age": ("age", AGES), "emotion": ("emotion", EMOTIONS),
         "pitch": ("pitch_label", LEVELS), "pitch_variation": ("pitch_var_label", LEVELS),
         "loudness": ("loudness_label", LEVELS), "speed": ("speed_label", LEVELS)}
"""Attributes that are words: their token, and the words by their number."""
NUMBERS = {"pitch": ("pitch_value", 1000), "pitch_variation": ("pitch_var_value", 10),
           "loudness": ("loudness_value", 30), "speed": ("speed_value", 10)}
"""Attributes that are whole numbers from 0 on: their token and the largest."""
SEMANTIC, VOICE = re.compile(r"bicodec_semantic_(\d+)"), re.compile(r"bicodec_global_(\d+)")
TOKEN = re.compile(r"<\|[^|<>]*\|>")


def word_token(attribute: str, word: str) -> str:
    """The token of an attribute that is a word, such as ``<|speed_label_3|>`` of ("speed", "high").

    Raises:
        ValueError: an unknown attribute or word.
    """
    if attribute not in WORDS:
        raise ValueError(f"unknown attribute {attribute!r}; there are {', '.join(WORDS)}")
    token, words = WORDS[attribute]
    if word not in words:
        raise ValueError(f"{attribute} must be one of {', '.join(words)}, got {word!r}")
    return f"<|{token}_{words.index(word)}|>"


def number_token(attribute: str, value: float) -> str:
    """The token of an attribute that is a number, cut to a whole one within its limits."""
    token, most = NUMBERS[attribute]
    return f"<|{token}_{min(max(int(value), 0), most)}|>"


def task_token(task: str) -> str:
    """The token at the begin of a prompt.

    Raises:
        ValueError: an unknown task.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    return f"<|task_{TASKS[task]}|>"


@dataclass(frozen=True)
class VoiceAttributes:
    """A voice that is described in words in place of a recording; a level is one of LEVELS.

    Args:
        gender: "female" or "male".
        pitch, speed: levels.
    """

    gender: str
    pitch: str = "moderate"
    speed: str = "moderate"

    def tokens(self) -> str:
        """Their tokens, in the order of the training.

        Raises:
            ValueError: an unknown word.
        """
        return "".join(word_token(name, getattr(self, name)) for name in ("gender", "pitch", "speed"))


def added_tokens(num_codes: int, num_voice_codes: int) -> list[str]:
    """All tokens of Spark-TTS that have a use here; the last one ends an answer.

    Args:
        num_codes, num_voice_codes: of the codec.
    """
    parts = ("content", "global_token", "semantic_token", "style_label")
    words = [task_token(task) for task in TASKS]
    words += [f"<|{side}_{part}|>" for part in parts for side in ("start", "end")]
    words += [word_token(name, word) for name, (_, known) in WORDS.items() for word in known]
    words += [f"<|{token}_{value}|>" for token, most in NUMBERS.values() for value in range(most + 1)]
    words += [f"<|bicodec_global_{code}|>" for code in range(num_voice_codes)]
    return [*words, *(f"<|bicodec_semantic_{code}|>" for code in range(num_codes)), "<|im_end|>"]


def answer(voice: Iterable[int], speech: Iterable[int], values: str | None = None) -> str:
    """What the model is to say.

    Args:
        voice: voice codes, which follow ``values``.
        speech: semantic codes.
        values: tokens of the attributes as numbers, behind a prompt that describes a voice; None behind one with a
            recording's voice codes.
    """
    spoken = f"<|start_semantic_token|>{''.join(f'<|bicodec_semantic_{code}|>' for code in speech)}<|im_end|>"
    if values is None:
        return spoken
    told = "".join(f"<|bicodec_global_{code}|>" for code in voice)
    return f"{values}<|start_global_token|>{told}<|end_global_token|>{spoken}"


def clone_prompt(text: str, voice: Iterable[int], words: str | None = None, speech: Iterable[int] = ()) -> str:
    """A prompt to speak with a recorded voice.

    Args:
        text: to say.
        voice: voice codes of the recording.
        words: what the recording says, glued to the text as it is; None: unknown.
        speech: semantic codes of the recording, which are continued; with words only.
    """
    told = "".join(f"<|bicodec_global_{code}|>" for code in voice)
    prompt = (f"{task_token('tts')}<|start_content|>{words or ''}{text}<|end_content|>"
              f"<|start_global_token|>{told}<|end_global_token|>")
    if words is None:
        return prompt
    return f"{prompt}<|start_semantic_token|>{''.join(f'<|bicodec_semantic_{code}|>' for code in speech)}"


def creation_prompt(text: str, attributes: VoiceAttributes) -> str:
    """A prompt to speak with a voice that is described.

    Raises:
        ValueError: an unknown word among the attributes.
    """
    return (f"{task_token('controllable_tts')}<|start_content|>{text}<|end_content|>"
            f"<|start_style_label|>{attributes.tokens()}<|end_style_label|>")


def check_plain(text: str) -> None:
    """Refuse text that the vocabulary would take for tokens.

    Raises:
        ValueError: names the first such part.
    """
    found = TOKEN.search(text)
    if found:
        raise ValueError(f"the text holds {found[0]!r}, which Spark-TTS takes for one of its tokens; leave it out")


def codes_of(answer: str) -> tuple[list[int], list[int]]:
    """Voice codes and semantic codes in the decoded answer of the model, in their order."""
    return [int(code) for code in VOICE.findall(answer)], [int(code) for code in SEMANTIC.findall(answer)]
