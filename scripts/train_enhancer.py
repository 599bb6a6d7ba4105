"""Train a speech enhancer on prepared speech and noises, mixed on the fly."""

from __future__ import annotations

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.data.mixing import MixingConfig
from photophone.data.speech import SpeechDataset
from photophone.generators.enhancer.model import SpeechEnhancer
from photophone.training.loop.command import train_command
from photophone.training.loop.config import TrainConfig
from photophone.training.losses.speech_features import WhisperFeatures
from photophone.training.tasks.enhancer import EnhancerTask, EnhancerWeights


def build_task(config: TrainConfig) -> EnhancerTask:
    settings = dict(config.task)
    codec = StreamCodec.from_pretrained(settings.pop("codec"))
    noise, held_apart = SpeechDataset(settings.pop("noise")), settings.pop("validation_noise", None)
    more, share = settings.pop("more_data", []), settings.pop("more_share", 0.25)
    recogniser = settings.pop("recogniser", None)
    features = WhisperFeatures(recogniser) if recogniser else None
    mixing = MixingConfig(**settings.pop("mixing", {}))
    own = {"token_dim": codec.token_dim, "token_hop": codec.hop_length, "sample_rate": codec.sample_rate}
    if config.init_from:
        model = SpeechEnhancer.from_pretrained(config.init_from, **own, **config.model)
    else:
        model = SpeechEnhancer(**own, **config.model)
    speech = SpeechDataset(config.data, *more)
    first = int(len(SpeechDataset(config.data)))
    validation = None
    if config.validation and held_apart:
        validation = SpeechDataset(config.validation), SpeechDataset(held_apart)
    task = EnhancerTask(model, codec, speech, noise, validation, mixing, EnhancerWeights(**settings), first, share,
                        features)
    if not config.init_from:
        task.fit_statistics()
    return task


if __name__ == "__main__":
    train_command(__doc__, build_task)
