"""The front of VoxCPM: words in any language and perhaps a recorded voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.generators.speech_sequence import SpeechSequence
from photophone.generators.voxcpm.model import VoxCPM
from photophone.loading.entry import Chain
from photophone.pipelines.speech_chains import load_generator_and_codec
from photophone.pipelines.speech_faults import Limit
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice, Voice, voice_samples
from photophone.text.voxcpm import WrittenPiece, check_words, load_tokenizer, voxcpm_ids, written_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ()
"""Further files that are taken: none."""
PATCHES_PER_ID, SPARE_PATCHES, MOST_PATCHES = 6, 10, 2000
"""It speaks at most this long: so many patches for each id of the text, and some more."""


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a published VoxCPM, see
    :func:`photophone.pipelines.phonon_front.load_parts`."""
    parts, commit = load_generator_and_codec(name, chain, files, folder, hub, configs)
    vocabulary = load_tokenizer(files.get("text_tokenizer") or folder or chain.text_tokenizer, **hub)
    return {**parts, "text_tokenizer": vocabulary}, commit


def front(pipeline: TextToSpeechPipeline) -> PromptedSpeech:
    """What stands between texts and the generator."""
    return PromptedSpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer)


class PromptedSpeech(SpeechFront):
    """Words in any language and perhaps a voice, for VoxCPM.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
    """

    takes_voices = True

    def __init__(self, generator: VoxCPM, codec: AudioCodec, tokenizer: PreTrainedTokenizerBase) -> None:
        self.generator, self.codec, self.tokenizer = generator, codec, tokenizer

    def check(self, text: str) -> None:
        """Refuse what has no words."""
        check_words(text)

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return list(written_pieces(self.tokenizer, text))

    def condition(self, requests: list[Request]) -> SpeechSequence:
        """Words and voices.

        Raises:
            ValueError: they leave no room for speech.
        """
        prompts = [request.voice if request.voice and request.voice.text is not None else None for request in requests]
        references = [request.voice if request.voice and request.voice.text is None else None for request in requests]
        texts = [voxcpm_ids(self.tokenizer, (prompt.text if prompt else "") + request.piece.text)
                 for request, prompt in zip(requests, prompts, strict=True)]
        prompts, references = ([voice and voice.tokens for voice in voices] for voices in (prompts, references))
        sequence = self.generator.prepare(texts, prompts, references)
        most = self.generator.config.max_length
        room = most - sequence.text_ids.shape[1]
        if room < 1:
            raise ValueError(f"text and voice leave no room in the {most} positions of the model; give a shorter "
                             "recording of the voice")
        limits = torch.tensor(self.limits(requests), device=self.generator.device).clamp(max=room)
        return replace(sequence, max_patches=limits)

    def limits(self, requests: list[Request]) -> list[int]:
        """Patches: what the authors allow for a text."""
        counts = [PATCHES_PER_ID * len(voxcpm_ids(self.tokenizer, request.piece.text)) + SPARE_PATCHES
                  for request in requests]
        return [min(count, MOST_PATCHES) for count in counts]

    def limit(self, condition: SpeechSequence, row: int) -> Limit:
        """So many patches."""
        most = int(condition.max_patches[row])
        return Limit(most * self.generator.config.get("patch_size", 1), f"{most} patches")

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """The end of a recording that is continued."""
        return None if voice.text is None else self.generator.context(voice.tokens)[None]

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as tokens: filled up to whole patches by silence, in front where it is to be continued, else
        behind.

        Raises:
            ValueError: the recording cannot be read, is too long, or has no text where the model needs it.
        """
        if voice.text is None and not self.generator.reads_references:
            raise ValueError("this model needs the words of the voice's recording: Voice(audio, text=...)")
        if voice.text is not None:
            check_words(voice.text)
        audio = voice_samples(voice, self.codec.sample_rate)
        size = self.generator.config.patch_size * self.codec.hop_length
        missing = -len(audio) % size
        audio = functional.pad(audio, (missing, 0) if voice.text is not None else (0, missing))
        return SpokenVoice(self.codec.encode(audio[None, None].to(self.codec.device)).values[0], voice.text)
