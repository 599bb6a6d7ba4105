"""Speech for tests: sentences spoken by the teacher voice, prepared as scripts/prepare_speech.py does it."""

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.data.speech import prepare_speech
from photophone.data.speech_sources import TeacherVoice
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.pipelines.speech_rounds import SpeechRounds

SENTENCES = (("Light carries sound.", "lˈIt kˈɛɹiz sˈWnd."), ("The sun is warm.", "ðə sˈʌn ɪz wˈɔɹm."),
             ("Who goes there?", "hˌu ɡˈOz ðˈɛɹ?"), ("She sells sea shells.", "ʃi sˈɛlz sˈi ʃˈɛlz."),
             ("Nobody else is at risk.", "nˈObˌɑdi ˈɛls ɪz æt ɹˈɪsk."),
             ("And that was the start.", "ænd ðˈæt wʌz ðə stˈɑɹt."))
SMALL_CODEC = {"frame_length": 200, "window": 800, "num_mels": 40, "latent_dim": 8, "encoder_width": 16,
               "encoder_depth": 1, "decoder_depth": 2, "width": 64, "hidden": 96}
SMALL_SPEECH = {"token_dim": 8, "text_width": 64, "text_depth": 1, "aligned_depth": 1, "width": 64, "depth": 2,
                "num_heads": 2, "window": 6, "cond_width": 32,
                "head_config": {"width": 64, "depth": 1, "num_heads": 2}}


def write_sentences(path: Path) -> Path:
    """A CSV as users give it."""
    path.write_text("text,phonemes,split\n" + "".join(f'"{text}","{phonemes}",train\n' for text, phonemes in SENTENCES),
                    encoding="utf-8")
    return path


def write_speech(path: Path) -> Path:
    """A prepared file of the sentences at 16 kHz with phoneme times."""
    prepare_speech([write_sentences(path.with_suffix(".csv"))], path, 16000, "train")
    return path


def write_recordings(folder: Path, repeats: int = 7) -> Path:
    """A folder of the sentences as a person might record them: WAV files, each with its words in a .txt. Seven rounds
    make a bit more than a minute, which a voice needs."""
    teacher = TeacherVoice()
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(repeats):
        for row, (text, phonemes) in enumerate(SENTENCES):
            clip = teacher.speak(text, phonemes, seed)
            soundfile.write(folder / f"{seed}-{row}.wav", clip.audio, clip.sample_rate)
            (folder / f"{seed}-{row}.txt").write_text(text)
    return folder


@cache
def small_codec(seed: int = 0) -> StreamCodec:
    """A small codec with random weights."""
    torch.manual_seed(seed)
    return StreamCodec(**SMALL_CODEC).eval()


@cache
def small_speech(seed: int = 0) -> SpeechFlowAR:
    """A small generator with random weights; its adaLN layers, zero at first, are shaken."""
    torch.manual_seed(seed)
    model = SpeechFlowAR(**SMALL_SPEECH).eval()
    for weight in model.parameters():
        weight.data += 0.03 * torch.randn_like(weight)
    model.fit_statistics(Tokens(0.2 + 1.3 * torch.randn(1, 50, 8)))
    return model


class RoomyNoise(SeededNoise):
    """Draws that do not depend on how far a row is padded: each is made for ROOM places and cut."""

    ROOM = 200

    def __init__(self, generators, counts=None):
        super().__init__([given if isinstance(given, torch.Generator) else torch.Generator().manual_seed(given)
                          for given in generators])
        self.counts = counts

    def parts(self, counts):
        return RoomyNoise(self.generators, counts)

    def _draw(self, function, shape, dtype):
        counts = self.counts or [shape[1]] * len(self.generators)
        rest = shape[1:] if self.counts else shape[2:]
        rows = [function((self.ROOM, *rest), generator=generator, dtype=dtype)[:count]
                for generator, count in zip(self.generators, counts, strict=True)]
        return torch.cat(rows) if self.counts else torch.stack(rows)


def save_tensors(path: Path, **tensors: torch.Tensor) -> Path:
    """A safetensors file."""
    save_file(tensors, path)
    return path


@cache
def word_tokenizer():
    """A small vocabulary in the manner of Llama's: letters, some words, Chinese."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz", *".,!?", "▁hello", "▁world", "▁你好", "你好", "世界",
              *"你好世界。，"]
    backend = Tokenizer(models.Unigram([(piece, -len(pieces) / len(piece)) for piece in pieces], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def in_rounds(pipeline, texts, most=4, is_streamed=False, **options):
    """Speech of texts that are spoken together, with their numbers as seeds."""
    rounds = SpeechRounds(pipeline, most)
    ours = [rounds.join(text, generator=torch.Generator().manual_seed(seed), is_streamed=is_streamed, **options)
            for seed, text in enumerate(texts)]
    made = {utterance: [] for utterance in ours}
    while rounds.active:
        for utterance, audio in rounds.step():
            made[utterance].append(audio)
    return [np.concatenate(made[utterance]) for utterance in ours]
