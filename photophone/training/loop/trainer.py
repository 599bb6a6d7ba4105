"""The one training loop, on accelerate.

Every draw of a step (data order, augmentation, noise, dropout) follows from the seed and the step number, so a run
that is killed and resumed from its last checkpoint continues bit for bit.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from photophone.core.command import Stop
from photophone.core.files import check_space, saving_into, space_told
from photophone.training.loop.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.optim import Ema, build_optimizers, learning_rate, split_by_rate
from photophone.training.loop.report import Reporter
from photophone.training.loop.task import Task


def epoch_indices(step: int, batch_size: int, num_examples: int, seed: int) -> np.ndarray:
    """Indices of step ``step``: consecutive parts of one permutation an epoch; batches may span two epochs."""
    start = step * batch_size
    indices = []
    while len(indices) < batch_size:
        epoch, position = divmod(start + len(indices), num_examples)
        order = np.random.default_rng([seed, epoch]).permutation(num_examples)
        indices.extend(order[position:position + batch_size - len(indices)])
    return np.asarray(indices)


class Trainer:
    """Runs a :class:`Task` for ``config.steps`` optimizer steps in ``folder``.

    Args:
        task: what to train.
        config: settings.
        folder: gets checkpoints/, metrics.jsonl, loss.png, pictures/ and export/.
        resume: continue from the newest checkpoint in ``folder``; without it a folder with checkpoints is refused.

    Raises:
        ValueError: a damaged or foreign checkpoint, other settings than the checkpoint's, or a used folder.
        NoSpace: the disk has no room for one checkpoint.
    """

    def __init__(self, task: Task, config: TrainConfig, folder: str | Path, resume: bool = False) -> None:
        self.task, self.config, self.folder = task, config, Path(folder)
        self.accelerator = Accelerator(mixed_precision=config.precision)
        if config.batch_size % (config.accumulation * self.accelerator.num_processes):
            raise ValueError(f"batch_size {config.batch_size} is not a multiple of accumulation x processes = "
                             f"{config.accumulation} x {self.accelerator.num_processes}")
        for name in config.compile:
            part = task.model.get_submodule(name)
            for module in part if isinstance(part, nn.ModuleList) else [part]:
                module.compile()
        optimizers = build_optimizers(task.model, config)
        self.ema = Ema(task.model, config.ema_decay)
        self.step = 0
        checkpoints = list_checkpoints(self.folder / "checkpoints")
        if checkpoints and not resume:
            raise ValueError(f"{self.folder} already holds checkpoints; use --resume or another folder")
        if checkpoints:
            self._load(checkpoints[-1], optimizers)
        self.model, *self.optimizers = self.accelerator.prepare(task.model, *optimizers)
        parts = split_by_rate(self.accelerator.unwrap_model(self.model), config.rates)
        self.clipped = [list(weights.values()) for _, weights in parts]  # each by its own norm
        self.ema.average = {name: t.to(self.accelerator.device) for name, t in self.ema.average.items()}
        check_space(self.folder, self._checkpoint_size())
        self.reporter = Reporter(self.folder, self.step) if self.accelerator.is_main_process else None

    @property
    def info(self) -> dict:
        """Facts that a checkpoint must share with the run that resumes it."""
        return {"model_class": type(self.task.model).__name__, "config": self.config.to_dict()}

    def _load(self, path: Path, optimizers: list[torch.optim.Optimizer]) -> None:
        checkpoint = load_checkpoint(path, self.info["model_class"])
        if changed := self.config.differences(checkpoint["state"]["config"]):
            raise ValueError(f"{path} was made with other settings: {'; '.join(changed)}")
        self.task.model.load_state_dict(checkpoint["model"])
        self.ema.average = checkpoint["ema"]
        for optimizer, state in zip(optimizers, checkpoint["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step = checkpoint["state"]["step"]

    def run(self, max_seconds: float | None = None, stop: Stop | None = None) -> int:
        """Train to the last step, or until it is time to stop; returns the steps done.

        Args:
            max_seconds: stop after so long, with all that belongs to the last step.
            stop: when a signal asks for it, the step is finished, a checkpoint is saved, and that is all.

        Raises:
            NoSpace: the disk is full; earlier checkpoints are whole.
        """
        config, started = self.config, time.monotonic()
        bar = tqdm(total=config.steps, initial=self.step, unit="step", disable=not self.accelerator.is_main_process,
                   dynamic_ncols=True, smoothing=0.05)
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        window, clock = 0, time.monotonic()
        with bar:  # an error is told below it
            while self.step < config.steps:
                metrics = self._train_step()
                self.step += 1
                window += 1
                bar.update()
                for name, value in metrics.items():
                    sums[name] = sums.get(name, 0) + value
                    counts[name] = counts.get(name, 0) + 1  # some losses start within a window
                if config.log_every and self.step % config.log_every == 0:
                    elapsed, rate = time.monotonic() - clock, config.batch_size * window
                    values = {name: float(total) / counts[name] for name, total in sums.items()}
                    values |= {"examples_per_second": rate / elapsed, "learning_rate": learning_rate(self.step, config)}
                    self._report(values)
                    bar.set_postfix(loss=f"{values['loss']:.4f}", ips=f"{values['examples_per_second']:.0f}")
                    sums, counts, window, clock = {}, {}, 0, time.monotonic()
                if self.step < config.steps and self._asked_to_stop(stop):
                    self._save()
                    break
                out_of_time = max_seconds is not None and time.monotonic() - started > max_seconds
                self._periodic(last=self.step == config.steps or out_of_time)
                if out_of_time:
                    break
        return self.step

    def _asked_to_stop(self, stop: Stop | None) -> bool:
        """Whether any of the processes was; they must stop at the same step."""
        if stop is None or self.accelerator.num_processes == 1:
            return bool(stop)
        if stop:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _save(self) -> None:
        """Save a checkpoint, where any are wanted."""
        if self.accelerator.is_main_process and self.config.checkpoint_every:
            model = self.accelerator.unwrap_model(self.model)
            save_checkpoint(self.folder / "checkpoints", self.step, model=model.state_dict(), ema=self.ema.average,
                            optimizers=[o.state_dict() for o in self.optimizers], info=self.info)

    def _checkpoint_size(self) -> int:
        """Bytes of a checkpoint, about: weights, their averages, two numbers of the optimizer for each; 0 for none."""
        if not self.config.checkpoint_every:
            return 0
        return 4 * sum(weight.nbytes for weight in self.task.model.state_dict().values())

    def _train_step(self) -> dict[str, Tensor]:
        config, accelerator = self.config, self.accelerator
        parts = config.accumulation * accelerator.num_processes
        indices = epoch_indices(self.step, config.batch_size, self.task.num_examples, config.seed)
        rate = learning_rate(self.step, config)
        self.model.train()
        totals: dict[str, Tensor] = {}
        for part in range(config.accumulation):
            own = np.array_split(indices, parts)[part * accelerator.num_processes + accelerator.process_index]
            key = [config.seed, self.step, part, accelerator.process_index]
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1)
            batch = self.task.batch(own, np.random.default_rng(key))
            batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
            last = part == config.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                with accelerator.autocast():
                    loss, metrics = self.task.loss(self.model, batch, self.step)
                accelerator.backward(loss / config.accumulation)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0) + value.detach() / config.accumulation
        first, *others = self.clipped
        totals["gradient_norm"] = accelerator.clip_grad_norm_(first, config.gradient_clip)
        for part in others:
            nn.utils.clip_grad_norm_(part, config.gradient_clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("factor", 1.0)  # groups of older checkpoints have none
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.update(accelerator.unwrap_model(self.model), self.step)
        return totals

    def _periodic(self, last: bool) -> None:
        config = self.config

        def due(every: int) -> bool:
            return bool(every) and (last or self.step % every == 0)

        if not self.accelerator.is_main_process:
            return
        model = self.accelerator.unwrap_model(self.model)
        if due(config.checkpoint_every):
            self._save()
        if not (due(config.validate_every) or due(config.preview_every) or last):
            return
        model.eval()
        self.ema.swap(model)
        # previews come in other shapes, which are not worth compiling
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            if due(config.validate_every):
                self._report(self.task.validate(model))
            if due(config.preview_every):
                picture = self.task.preview(model)
                if picture is not None:
                    self.reporter.picture(f"step-{self.step:08d}", picture)
                self.reporter.curve()
            with saving_into(self.folder / "export"):
                self.task.export(model, self.folder / "export")
        self.ema.swap(model)

    def _report(self, values: dict[str, float]) -> None:
        if self.reporter is not None:
            with space_told(self.reporter.path):
                self.reporter.metrics(self.step, values)
