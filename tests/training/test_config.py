"""Training settings: YAML, overrides, refusals."""

from pathlib import Path

import pytest

from photophone.training.loop.config import TrainConfig, load_config

ROOT = Path(__file__).parents[2]


def write(folder, text):
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder / "config.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configs_of_the_repository_load(path):
    config = load_config(path)
    assert config.learning_rate > config.final_learning_rate > 0 and config.steps > config.warmup_steps


def test_overrides_replace_and_nest(tmp_path):
    path = write(tmp_path, "data: a.safetensors\nsteps: 10\ntask:\n  l1: 0.5\n  l2: 1.0\nmodel:\n")
    config = load_config(path, ["steps=20", "task.l1=0.25", "model.width=64", "model.head_config.depth=2",
                                "validation=null", "betas=[0.8, 0.9]", "data=x=y.safetensors"])
    assert config.steps == 20 and config.task == {"l1": 0.25, "l2": 1.0}
    assert config.model == {"width": 64, "head_config": {"depth": 2}}
    assert config.validation is None and config.betas == (0.8, 0.9) and config.data == "x=y.safetensors"
    assert load_config(path).steps == 10


def test_numbers_may_be_written_as_powers_of_ten(tmp_path):
    """YAML 1.1 reads 2e-3 as a word; a learning rate that is a word would fail only in the first step."""
    path = write(tmp_path, "data: a\nlearning_rate: 2e-3\nsteps: 1e4\n")
    config = load_config(path, ["final_learning_rate=1e-5", "warmup_steps=2e1"])
    assert (config.learning_rate, config.final_learning_rate) == (2e-3, 1e-5)
    assert config.steps == 10_000 and isinstance(config.steps, int) and config.warmup_steps == 20


@pytest.mark.parametrize(("text", "overrides", "words"), [
    ("data: a\nlearning_rte: 1.0\n", [], "unknown settings .'learning_rte'.; known are .*'learning_rate'"),
    ("data: a\n3: 1\nfoo: 2\n", [], "unknown settings"), ("steps: 3\n", [], "'data' is missing"),
    ("", [], "mapping of settings, got NoneType"), ("- 1\n", [], "got list"), ("data: [", [], "is not YAML"),
    ("!!python/object/apply:os.mkdir [/nowhere]", [], "is not YAML"), ("data: a", ["steps"], "of the form key=value"),
    ("data: a", ["stps=3"], "unknown settings"), ("data: a", ["steps.first=3"], "steps must be of type int"),
    ("data: a\nsteps: 5", ["steps.first=3"], "steps is 5 and has no settings of its own"),
    ("data: a", ["steps=["], "is not YAML"), ("data: a", ["steps=0"], "steps must be at least 1, got 0"),
    ("data: a", ["steps=many"], "steps must be of type int, got 'many'"), ("data: a", ["steps=2.5"], "got 2.5"),
    ("data: a", ["steps=true"], "got True"), ("data: a", ["learning_rate=null"], "learning_rate .*None"),
    ("data: a", ["learning_rate=fast"], "'fast'"), ("data: a", ["model=3"], "model .*got 3"),
    ("data: a", ["data=null"], "data .*None"),
    ("data: a", ["compile=blocks"], "compile .*'blocks'"), ("data: a", ["betas=0.9"], "betas"),
    ("data: a", ["precision=fp8"], "'no', 'bf16' or 'fp16', got 'fp8'"),
    ("data: a", ["batch_size=2000000000"], "batch_size must be at most 1000000, got 2000000000"),
    ("data: a", ["batch_size=10", "accumulation=4"], "10 is not a multiple of accumulation 4"),
    ("data: a", ["log_every=-1"], "log_every must be 0 or more"), ("data: a", ["ema_decay=1.0"], "ema_decay"),
])
def test_wrong_settings_are_refused(tmp_path, text, overrides, words):
    with pytest.raises(ValueError, match=words):
        load_config(write(tmp_path, text), overrides)
    assert not Path("/nowhere").exists()


def test_settings_survive_json():
    import json
    config = TrainConfig("a", betas=[0.8, 0.95], model={"width": 64})
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_a_list_setting_is_read_and_a_word_for_it_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: x.safetensors\ncompile: [head.blocks, blocks]\n")
    assert load_config(file).compile == ["head.blocks", "blocks"]
    with pytest.raises(ValueError, match=r"compile must be of type list\[str\], got 'head'"):
        load_config(file, ["compile=head"])
