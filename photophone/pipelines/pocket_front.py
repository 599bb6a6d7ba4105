"""The front of Pocket TTS: words and perhaps a recorded voice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.data.voice_prompts import end_on_pause
from photophone.generators.pocket_tts.condition import VoicedText
from photophone.generators.pocket_tts.model import PocketTTS
from photophone.loading.entry import Chain
from photophone.loading.registry import find
from photophone.pipelines.speech_chains import load_generator_and_codec
from photophone.pipelines.speech_fronts import Request, SpokenVoice, Voice, voice_samples
from photophone.pipelines.voxcpm_front import PromptedSpeech
from photophone.text.pocket_tts import (
    PocketRules,
    frames_after,
    load_pocket_tokenizer,
    pocket_ids,
    pocket_pieces,
    rules_of,
)
from photophone.text.voxcpm import WrittenPiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ()
"""Further files that are taken: none."""
IDS_PER_SECOND, SPARE_SECONDS = 3.0, 2.0
"""It speaks at most this long: so many ids of the text a second, and some more."""


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a published Pocket TTS, see
    :func:`photophone.pipelines.phonon_front.load_parts`."""
    parts, commit = load_generator_and_codec(name, chain, files, folder, hub, configs)
    source = files.get("text_tokenizer") or folder or chain.text_tokenizer
    return {**parts, "text_tokenizer": load_pocket_tokenizer(source, find(name).files[1], **hub)}, commit


def front(pipeline: TextToSpeechPipeline) -> PocketSpeech:
    """What stands between texts and the generator."""
    return PocketSpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer,
                        rules_of(pipeline.source["model"]))


class PocketSpeech(PromptedSpeech):
    """Words and perhaps a voice, for Pocket TTS.

    The words of a voice's recording are not needed, and not read.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
        rules: what its training text did not have.
    """

    takes_references = False

    def __init__(self, generator: PocketTTS, codec: AudioCodec, tokenizer: PreTrainedTokenizerBase,
                 rules: PocketRules) -> None:
        super().__init__(generator, codec, tokenizer)
        self.rules = rules

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return list(pocket_pieces(self.tokenizer, text, self.rules))

    def condition(self, requests: list[Request]) -> VoicedText:
        """Words and voices.

        Raises:
            ValueError: they leave no room for speech.
        """
        texts = [pocket_ids(self.tokenizer, request.piece.text) for request in requests]
        sequence = self.generator.prepare(texts, [request.voice and request.voice.tokens for request in requests])
        most = self.generator.config.max_length
        room = most - sequence.text_ids.shape[1]
        if room < 1:
            raise ValueError(f"text and voice leave no room in the {most} positions of the model; give a shorter "
                             "recording of the voice")
        device = self.generator.device
        limits = torch.tensor(self.limits(requests), device=device).clamp(max=room)
        after = torch.tensor([frames_after(request.piece.text) for request in requests], device=device)
        return replace(sequence, max_patches=limits, frames_after=after)

    def limits(self, requests: list[Request]) -> list[int]:
        """Frames: what the authors allow for a text."""
        seconds = [len(pocket_ids(self.tokenizer, request.piece.text)) / IDS_PER_SECOND + SPARE_SECONDS
                   for request in requests]
        return [math.ceil(count * self.codec.frame_rate) for count in seconds]

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """Nothing: a recording is not continued."""
        return None

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as tokens, ended with a pause as those of the training.

        Raises:
            ValueError: the recording cannot be read, is too long, or lasts less than a frame.
        """
        audio = voice_samples(voice, self.codec.sample_rate)
        if len(audio) < self.codec.hop_length:
            raise ValueError(f"the voice lasts {1000 * len(audio) / self.codec.sample_rate:.0f} ms; about 5 s are "
                             "good")
        audio = end_on_pause(audio, self.codec.sample_rate)
        return SpokenVoice(self.codec.encode(audio[None, None].to(self.codec.device)).values[0], voice.text)
