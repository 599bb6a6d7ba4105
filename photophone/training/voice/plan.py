"""What a training of a voice is asked for, how long it trains, and what it was begun with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from photophone.core.files import atomic_write
from photophone.core.weight_files import read_json_object
from photophone.data.speech import SpeechDataset
from photophone.loading.registry import PRETRAINED, builtin_folder
from photophone.training.loop.config import TrainConfig

ALIGNER = PRETRAINED / "tiny-aligner"
STEPS = (200, 1200)
"""Of the generator: at least and at most."""
STEPS_PER_MINUTE = 25
CODEC_SHARE = 1
"""Steps of the codec's decoder for each of the generator's; twice as many made five minutes sound 0.01 OVRL better."""
BATCH_SIZE = 8
CODEC_BATCH_SIZE = 16
HELD_APART = 0.05
"""Of the clips, for validation: 1 to 16."""
WATCHED = 6
"""Times that samples are written in a training."""


@dataclass(frozen=True)
class VoicePlan:
    """What is asked for.

    Args:
        recordings: folders, tables, parquet files or tars.
        output: the folder to make; work in progress lies below ``training`` in it.
        base: the voice to start from: a built-in name or the folder of another one.
        speaker: whose clips are taken, where there are several.
        minutes: of recordings, at most.
        steps: of the generator; None: by the amount of speech.
        seed: of data order and noise.
    """

    recordings: list[Path]
    output: Path
    base: str = "photophone/tiny-speech"
    speaker: str | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0

    @property
    def work(self) -> Path:
        """Where what is prepared and trained lies."""
        return self.output / "training"

    @property
    def base_folder(self) -> Path:
        """Of the voice to start from."""
        return builtin_folder(self.base) or Path(self.base)

    def begin(self) -> bool:
        """Note what is asked for, or compare with what was.

        Returns:
            Whether a training of the same is going on.

        Raises:
            ValueError: the folder belongs to something else.
        """
        asked = json.loads(json.dumps({**asdict(self), "output": "", "recordings": [
            str(path.absolute()) for path in self.recordings]}, default=str))
        file = self.work / "plan.json"
        if file.exists():
            before = read_json_object(file)
            changed = [name for name in asked if asked[name] != before.get(name)]
            if changed and self.is_begun:
                told = ", ".join(f"{name} was {before.get(name)!r}, now {asked[name]!r}" for name in changed)
                raise ValueError(f"{self.output} holds a training of another kind: {told}; give the same again, or "
                                 "another --output")
            if not changed:
                return self.is_begun
        elif self.output.exists() and any(self.output.iterdir()):
            raise ValueError(f"{self.output} is there and holds no training of a voice; give another --output")
        self.work.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
        return False

    @property
    def recordings_file(self) -> Path:
        """What the first stage makes."""
        return self.work / "recordings.safetensors"

    @property
    def is_begun(self) -> bool:
        """Whether there is anything to go on with: what only ended in an error may be asked for otherwise."""
        return self.recordings_file.exists() or (self.output / "model_index.json").exists()

    def generator_steps(self, data: SpeechDataset) -> int:
        """Of the generator's training."""
        minutes = len(data.audio) / data.sample_rate / 60
        return self.steps or round(min(max(STEPS_PER_MINUTE * minutes, STEPS[0]), STEPS[1]))

    def codec_config(self, steps: int) -> TrainConfig:
        """Settings of the codec's training: its decoder alone, so that the tokens stay those of the base voice."""
        codec_steps = CODEC_SHARE * steps
        return TrainConfig(str(self.work / "train.safetensors"), str(self.work / "val.safetensors"), steps=codec_steps,
                           init_from=str(self.base_folder / "codec"), task={"freeze_encoder": True},
                           batch_size=CODEC_BATCH_SIZE, learning_rate=1e-3, ema_decay=0.99,
                           **self._common(codec_steps, previews=0))

    def generator_config(self, steps: int) -> TrainConfig:
        """Settings of the generator's training."""
        tokens = {name: str(self.work / f"{part}-tokens.safetensors")
                  for name, part in (("tokens", "train"), ("validation_tokens", "val"))}
        named = read_json_object(self.base_folder / "speech_generator" / "config.json").get("voices")
        task = {"codec": str(self.work / "codec" / "export"), **tokens, **({"voice": named[0][0]} if named else {})}
        return TrainConfig(str(self.work / "train.safetensors"), str(self.work / "val.safetensors"), steps=steps,
                           init_from=str(self.base_folder / "speech_generator"), task=task, batch_size=BATCH_SIZE,
                           learning_rate=1e-3, ema_decay=0.98, **self._common(steps, previews=WATCHED))

    def _common(self, steps: int, previews: int) -> dict:
        every = max(1, steps // WATCHED)
        return {"optimizer": "muon", "final_learning_rate": 1e-5, "warmup_steps": min(20, steps // 10),
                "seed": self.seed, "log_every": max(1, min(20, steps)), "validate_every": every,
                "preview_every": max(1, steps // previews) if previews else 0,
                "checkpoint_every": max(1, min(25, every))}
