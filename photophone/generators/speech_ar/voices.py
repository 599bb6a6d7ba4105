"""One voice of a generator of several, as a generator of its own."""

from __future__ import annotations

import torch

from photophone.generators.speech_ar.model import SpeechFlowAR


@torch.no_grad()
def single_voice(generator: SpeechFlowAR, name: str) -> SpeechFlowAR:
    """A copy that has one voice without a name and says what this voice says.

    The vector of the voice is added to those of all phonemes, and what it adds behind them to the bias there.

    Raises:
        ValueError: there is no voice of this name.
    """
    names = list(generator.accents)
    if name not in names:
        raise ValueError(f"no voice is named {name!r}; there are {', '.join(names) or 'none, only one without a name'}")
    settings = {key: generator.config[key] for key in type(generator).config_keys()}
    copy = type(generator)(**{**settings, "voices": None})
    copy.load_state_dict({key: weight for key, weight in generator.state_dict().items()
                          if not key.startswith(("voice_in.", "voice_out."))})
    voice = generator.voice_in.weight[names.index(name)]
    copy.embedding.weight += voice
    copy.text_norm.bias += generator.voice_out(voice)
    return copy.train(generator.training)
