"""The one training loop, on accelerate.

Every draw of a step (data order, augmentation, noise, dropout) follows from the seed and the step number, so a run
that is killed and resumed from its last checkpoint continues bit for bit.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm import tqdm

from photophone.core.command import Stop
from photophone.core.files import atomic_folder, check_space, space_told
from photophone.core.threads import LARGE_WORK, Region, fitting_threads
from photophone.training.loop.checkpoint import (
    DamagedCheckpoint,
    list_checkpoints,
    load_checkpoint,
    remove_halves,
    save_checkpoint,
)
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.optim import Ema, build_optimizers, learning_rate, load_optimizer, split_by_rate
from photophone.training.loop.report import Reporter
from photophone.training.loop.task import Task

FAR, LEAST_NORMS, USUAL_NORMS = 10, 10, 100
"""A gradient so many times as large as the median is told of, once there are so many lines of the log, of the last so
many."""


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
        resume: continue from the newest whole checkpoint in ``folder``; without it a folder with checkpoints is
            refused.
        allow_changes: continue with other settings than the checkpoint's, and say which.

    Attributes:
        step: optimizer steps done.
        notes: sentences for the user on what was found when resuming.

    Raises:
        ValueError: no checkpoint that can be read, one of another model, other settings than the checkpoint's or fewer
            steps than it has done, or a used folder.
        NoSpace: the disk has no room for one checkpoint.
    """

    def __init__(self, task: Task, config: TrainConfig, folder: str | Path, resume: bool = False,
                 allow_changes: bool = False) -> None:
        self.task, self.config, self.folder = task, config, Path(folder)
        self.accelerator = Accelerator(mixed_precision=config.precision)
        self.notes: list[str] = []
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
        self.info = {"model_class": type(task.model).__name__, "config": config.to_dict(),
                     "contents": config.contents(), "processes": self.accelerator.num_processes}
        if checkpoints:
            self._load(self._newest_whole(checkpoints), optimizers, allow_changes)
        self.model, *self.optimizers = self.accelerator.prepare(task.model, *optimizers)
        parts = split_by_rate(self.accelerator.unwrap_model(self.model), config.rates)
        self.clipped = [list(weights.values()) for _, weights in parts]  # each by its own norm
        self.ema.average = {name: t.to(self.accelerator.device) for name, t in self.ema.average.items()}
        check_space(self.folder, self._checkpoint_size())
        self.reporter: Reporter | None = None
        self.norms: deque[float] = deque(maxlen=USUAL_NORMS)

    @contextmanager
    def _holding_folder(self) -> Iterator[None]:
        """Keep other trainings out of the run's folder, so that no two mix their files."""
        if not self.accelerator.is_main_process:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                for folder in (self.folder, self.folder / "checkpoints", self.folder / "pictures"):
                    remove_halves(folder)
                yield
        except Timeout:
            raise ValueError(f"another training is using {self.folder}; wait for it or take another folder") from None

    def _newest_whole(self, checkpoints: list[Path]) -> dict:
        """The newest checkpoint that is not damaged; ``notes`` names those that are."""
        damaged = []
        for path in reversed(checkpoints):
            try:
                checkpoint = load_checkpoint(path, self.info["model_class"])
            except DamagedCheckpoint as error:
                damaged.append(str(error))
                continue
            self.notes += [f"{error}; resuming from {path.name} before it" for error in damaged]
            return checkpoint
        raise ValueError(f"no checkpoint in {self.folder / 'checkpoints'} is whole: {'; '.join(damaged)}; "
                         "start again in another folder")

    def _load(self, checkpoint: dict, optimizers: list[torch.optim.Optimizer], allow_changes: bool) -> None:
        state, config = checkpoint["state"], self.config
        place = f"{self.folder / 'checkpoints'}/step-{state['step']:08d}"
        if state["step"] > config.steps:
            raise ValueError(f"steps is {config.steps}, but {place} has done {state['step']}; raise steps or train in "
                             "another folder")
        changed = config.differences(state["config"], state.get("contents"))
        if state.get("processes", 1) != self.accelerator.num_processes:
            changed.append(f"processes {state.get('processes', 1)}, now {self.accelerator.num_processes}")
        if changed and not allow_changes:
            raise ValueError(f"{place} was made with other settings: {'; '.join(changed)}; undo that, or take "
                             "--allow-changes to go on with the new ones")
        self.notes += [f"from step {state['step']} on: {change}" for change in changed]
        self.info["changes"] = state.get("changes", [])
        if changed:
            self.info["changes"] = [*self.info["changes"], {"step": state["step"], "settings": changed}]
        self.task.model.load_state_dict(checkpoint["model"])
        self.ema.average = checkpoint["ema"]
        for optimizer, saved in zip(optimizers, checkpoint["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        self.step = state["step"]

    def run(self, max_seconds: float | None = None, stop: Stop | None = None) -> int:
        """Train to the last step, or until it is time to stop; returns the steps done.

        Args:
            max_seconds: stop after so long, with all that belongs to the last step.
            stop: when a signal asks for it, the step is finished, a checkpoint is saved, and that is all.

        Raises:
            NoSpace: the disk is full; earlier checkpoints are whole.
            ValueError: another training is using the folder, or this one has diverged: its loss or a weight is not
                finite.
        """
        with self._holding_folder():
            if self.accelerator.is_main_process:
                self.reporter = Reporter(self.folder, self.step)
                for note in self.reporter.notes:
                    tqdm.write(note)
            with fitting_threads(self.task.model, LARGE_WORK) as threads:
                done = self._train(max_seconds, stop, threads)
            if done:
                # also when there was no step left to do: the run may have ended between checkpoint and export
                self._export()
        return self.step

    def _train(self, max_seconds: float | None, stop: Stop | None, threads: Region) -> bool:
        """Make the steps; False when a signal ended them."""
        config, started = self.config, time.monotonic()
        bar = tqdm(total=config.steps, initial=self.step, unit="step", disable=not self.accelerator.is_main_process,
                   dynamic_ncols=True, smoothing=0.05)
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        window, clock = 0, time.monotonic()
        with bar:  # an error is told below it
            while self.step < config.steps:
                threads.adapt()
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
                    self._watch(values)
                    bar.set_postfix(loss=f"{values['loss']:.4f}", ips=f"{values['examples_per_second']:.0f}")
                    sums, counts, window, clock = {}, {}, 0, time.monotonic()
                if self.step < config.steps and self._asked_to_stop(stop):
                    self._save()
                    return False
                out_of_time = max_seconds is not None and time.monotonic() - started > max_seconds
                self._periodic(last=self.step == config.steps or out_of_time)
                if out_of_time:
                    break
        return True

    def _watch(self, values: dict[str, float]) -> None:
        """End a run whose loss is no number any more, and tell of gradients that are far larger than before.

        Raises:
            ValueError: the loss is not finite.
        """
        if not math.isfinite(values["loss"]):
            raise ValueError(self._diverged(f"the loss is {values['loss']}"))
        norm = values["gradient_norm"]
        if len(self.norms) >= LEAST_NORMS and norm > FAR * (usual := statistics.median(self.norms)):
            tqdm.write(f"step {self.step}: the gradient's norm is {norm:.3g}, {usual:.3g} was usual; if the loss does "
                       f"not come down again, lower learning_rate ({self.config.learning_rate:g})")
        if math.isfinite(norm):  # fp16 leaves out a step now and then
            self.norms.append(norm)

    def _diverged(self, what: str) -> str:
        """A sentence for the user of a run that cannot go on."""
        whole = list_checkpoints(self.folder / "checkpoints")
        lower = f"lower learning_rate ({self.config.learning_rate:g})"
        way = (f"{whole[-1]} is whole: {lower} and go on with --resume --allow-changes" if whole else
               f"start again with a {lower}")
        return f"the training has diverged: {what} at step {self.step}; {way}"

    def _asked_to_stop(self, stop: Stop | None) -> bool:
        """Whether any of the processes was; they must stop at the same step."""
        if stop is None or self.accelerator.num_processes == 1:
            return bool(stop)
        if stop:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _save(self) -> None:
        """Save a checkpoint, where any are wanted.

        Raises:
            ValueError: weights are not finite; the checkpoints that are there stay.
        """
        if self.accelerator.is_main_process and self.config.checkpoint_every:
            model = self.accelerator.unwrap_model(self.model)
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            if not all(torch.isfinite(norm) for norm in torch._foreach_norm([w.detach() for w in trained])):
                raise ValueError(self._diverged("there are weights that are not finite"))
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
        if not (due(config.validate_every) or due(config.preview_every)):
            return
        with self._averaged(model):
            if due(config.validate_every):
                self._report(self.task.validate(model))
            if due(config.preview_every):
                picture = self.task.preview(model)
                if picture is not None:
                    self.reporter.picture(f"step-{self.step:08d}", picture)
                self.reporter.curve()
        if not last:
            self._export()

    @contextmanager
    def _averaged(self, model: nn.Module) -> Iterator[None]:
        """The model with its averaged weights and in evaluation mode, without gradients."""
        model.eval()
        self.ema.swap(model)
        try:
            # previews come in other shapes, which are not worth compiling
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self.ema.swap(model)

    def _export(self) -> None:
        """Replace ``export`` by the averaged weights of this step, as a whole."""
        if not self.accelerator.is_main_process:
            return
        model = self.accelerator.unwrap_model(self.model)
        with self._averaged(model), atomic_folder(self.folder / "export", overwrite=True) as partial:
            self.task.export(model, partial)

    def _report(self, values: dict[str, float]) -> None:
        if self.reporter is not None:
            with space_told(self.reporter.path):
                self.reporter.metrics(self.step, values)
