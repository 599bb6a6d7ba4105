"""Scaling laws: numbers that are known come back, and a real run is read."""

import itertools
import runpy
import sys
from pathlib import Path

import pytest
from tiny import SMALL_TOKENIZER, write_prepared

from photophone.data.images import ImageDataset
from photophone.tokenizers.latent1d.model import Latent1DTokenizer
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.image_tokenizer import ImageTokenizerTask

SCRIPT = Path(__file__).parents[1] / "scripts" / "fit_scaling.py"
SIZES = list(itertools.product([1e6, 3e6, 1e7], [1e5, 4e5, 1.6e6]))


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(SCRIPT))


def test_a_known_law_is_found(tool):
    true = tool["Law"](0.5, 30.0, 200.0, 0.4, 0.5)
    runs = [tool["Run"](f"{n}", n, d, 1.0, true.loss(n, d)) for n, d in SIZES]
    law = tool["fit"](runs)
    assert (law.weights_power, law.examples_power) == pytest.approx((0.4, 0.5))
    assert law.loss(1e8, 1e7) == pytest.approx(true.loss(1e8, 1e7), abs=1e-6)
    weights, examples = tool["best_split"](law, 1e13)
    assert weights * examples == pytest.approx(1e13)
    assert all(law.loss(weights, examples) <= law.loss(weights * f, examples / f) for f in (0.9, 1.1))
    # where the derivatives are in balance: N^0.4 of the one is to D^0.5 of the other as 30 * 0.4 to 200 * 0.5
    assert 30 * 0.4 / weights**0.4 == pytest.approx(200 * 0.5 / examples**0.5, rel=0.02)
    with pytest.raises(ValueError, match="does not fall"):
        tool["fit"]([tool["Run"](run.name, run.weights, run.examples, 1.0, -run.loss) for run in runs])


def test_retrieval_lies_on_a_line_of_the_loss(tool, tmp_path):
    runs = [tool["Run"](f"{loss}", 1.0, 1.0, 1.0, loss, {"test_combo": 1.2 - loss}) for loss in (0.6, 0.8, 1.1)]
    assert tool["line"](runs, "test_combo")(0.5) == pytest.approx(0.7)
    assert tool["read_found"](tmp_path) == {}
    (tmp_path / "evaluation.json").write_text('{"test_combo": {"generated": {"top1": 0.25}}}')
    assert tool["read_found"](tmp_path) == {"test_combo": 0.25}


class Validated(ImageTokenizerTask):
    def validate(self, model):
        return {"validation_loss": 0.25}


def test_runs_are_read_from_their_folders(tool, tmp_path, monkeypatch, capsys):
    data = ImageDataset(write_prepared(tmp_path / "icons.safetensors"))
    model = Latent1DTokenizer(**SMALL_TOKENIZER)
    task: Task = Validated(model, data, data)
    config = TrainConfig("data", steps=4, batch_size=8, log_every=2, validate_every=4, checkpoint_every=4,
                         preview_every=0)
    Trainer(task, config, tmp_path / "run").run()
    run = tool["read_run"](tmp_path / "run")
    assert (run.weights, run.examples, run.loss) == (sum(t.numel() for t in model.state_dict().values()), 32, 0.25)
    assert 0 < run.hours < 1
    for arguments, words in (([tmp_path / "run"], "1 runs; the form has five numbers"),
                             ([tmp_path], "has no checkpoint; give the folder")):
        monkeypatch.setattr(sys, "argv", ["fit_scaling.py", *map(str, arguments)])
        with pytest.raises(SystemExit):
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert words in capsys.readouterr().err
