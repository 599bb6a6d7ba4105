"""A run that goes wrong ends before it replaces what was right, and large gradients are told of."""

import pytest
import torch
from torch import nn

from photophone.training.loop.checkpoint import load_checkpoint
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task
from photophone.training.loop.trainer import Trainer


class Slope(Task):
    """A loss whose gradient in the one weight is what ``slopes`` says for each step, 1 after them."""

    def __init__(self, slopes):
        self.model = nn.Linear(1, 1, bias=False)
        self.slopes, self.num_examples = slopes, 8

    def batch(self, indices, rng):
        return {"x": torch.ones(len(indices), 1)}

    def loss(self, model, batch, step):
        loss = model(batch["x"]).mean() * self.slopes.get(step, 1.0)
        return loss, {}

    def validate(self, model):
        return {}

    def preview(self, model):
        return None

    def export(self, model, folder):
        (folder / "weight").write_text(str(float(model.weight)))


def train(task, folder, **settings):
    config = TrainConfig("data", **{"steps": 40, "batch_size": 2, "gradient_clip": 1e9, "log_every": 1,
                                    "checkpoint_every": 5, "preview_every": 0, "validate_every": 0, **settings})
    trainer = Trainer(task, config, folder)
    trainer.run()


@pytest.mark.parametrize("slope", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, slope):
    with pytest.raises(ValueError, match=r"diverged: the loss is (nan|-?inf) at step 13; .*step-00000010 is whole: "
                                         r"lower learning_rate \(0\.001\) and go on with --resume --allow-changes"):
        train(Slope({12: slope}), tmp_path)
    assert torch.isfinite(load_checkpoint(tmp_path / "checkpoints" / "step-00000010", "Linear")["model"]["weight"])


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    """Between two lines of the log the loss is not looked at; the checkpoint before must not be pushed out."""
    with pytest.raises(ValueError, match="not finite at step 15; .*step-00000010 is whole"):
        train(Slope({12: float("nan")}), tmp_path, log_every=0)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000005", "step-00000010"]
    with pytest.raises(ValueError, match="start again with a lower learning_rate"):
        train(Slope({0: float("nan")}), tmp_path / "other")


def test_gradients_far_above_the_usual_are_told_of(tmp_path, capsys):
    train(Slope({20: 30.0}), tmp_path / "far")
    assert "step 21: the gradient's norm is 30, 1 was usual; if the loss" in capsys.readouterr().out
    train(Slope({5: 30.0, 20: 3.0}), tmp_path / "near")  # at first everything is large
    assert "gradient's norm" not in capsys.readouterr().out
