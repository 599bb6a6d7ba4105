"""Fine-tuning of published speech models, whole and by LoRA, from their folders and back into them."""

import json

import pytest
import torch
from cosyvoice_folders import load_cosyvoice, part_configs, recording, seeded, write_cosyvoice
from peft import PeftModel
from safetensors.torch import load_file
from speech_folders import write_spark, write_voxcpm
from tiny import arguments, shake
from transformers import Qwen2Config, Qwen2ForCausalLM

from photophone import SeededNoise, TextToSpeechPipeline, Voice, create_model
from photophone.data.speech_examples import write_examples
from photophone.layers.lora import LoraLinear
from photophone.loading.lora import write_adapter
from photophone.loading.registry import find
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.lora import ATTENTION, LoraSettings, add_lora, lora_state, merged, official_parts
from photophone.training.tasks.speech_recipes import speech_generator_task

NAMES = ("spark-tts-0.5b", "cosyvoice2-0.5b", "voxcpm-0.5b", "voxcpm-2", "cosyvoice-300m")
TARGETS = {"cosyvoice-300m": ("linear_q", "linear_v")}
COUNTS = ((3, 8), (4, 12), (5, 10), (4, 16))
SETTINGS = {"batch_size": 1, "learning_rate": 5e-3, "warmup_steps": 5, "log_every": 5, "validate_every": 0,
            "preview_every": 0, "ema_decay": 0.8, "checkpoint_every": 10, "gradient_clip": 10.0}


def write_release(folder, name):
    """A tiny release, and the settings that its sizes need beside it."""
    if name == "spark-tts-0.5b":
        return write_spark(folder), {}
    if name.startswith("cosyvoice"):
        return write_cosyvoice(folder, name), part_configs(name)["llm"]
    return write_voxcpm(folder, "v2" if name == "voxcpm-2" else "v1"), {}


@pytest.fixture(scope="module", params=["spark-tts-0.5b", "cosyvoice2-0.5b", "voxcpm-0.5b"])
def release(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, *write_release(folder, request.param)


def write_shard(path, name, model):
    """Four examples for a model."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(40, (count,), generator=generator) for count, _ in COUNTS]
    if name.startswith("voxcpm"):
        tokens = [torch.randn(count, model.config.token_dim, generator=generator) for _, count in COUNTS]
    else:
        tokens = [torch.randint(24, (count,), generator=generator) for _, count in COUNTS]
    write_examples(path, ids, tokens)
    return path


def trainer(release, folder, resume=False, lora=None, **changes):
    name, source, sizes = release
    path = folder.parent / f"{name}.safetensors"
    config = TrainConfig(str(path), model={"name": name, **sizes}, init_from=str(source),
                         task={"positions": 64, **({} if lora is None else {"lora": lora})}, **{**SETTINGS, **changes})
    if not path.exists():
        path = write_shard(path, name, loaded(release, source).speech_generator)
    torch.manual_seed(config.seed)
    return Trainer(speech_generator_task(config), config, folder, resume)


def loaded(release, folder):
    name, source, _ = release
    if name.startswith("cosyvoice"):
        return load_cosyvoice(folder, name)
    more = {"bicodec": folder / "codec"} if name == "spark-tts-0.5b" else {}
    pipeline = TextToSpeechPipeline.from_original(name, folder, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def whole_loss(task):
    """Of all examples with the same draws."""
    task.model.eval()
    with torch.no_grad():
        batches = [task.batch([index], None) for index in range(task.num_examples)]
        return sum(float(task.model(batch["tokens"], batch["condition"], noise=SeededNoise.from_seeds(
            range(len(batch["tokens"])))).loss) for batch in batches) / len(batches)


@pytest.mark.parametrize("name", NAMES)
def test_a_lora_learns_alone_and_merges_into_the_weights(name):
    torch.manual_seed(0)
    model = shake(create_model(name, **find(name).tiny))
    tokens, condition = model.example_tokens(3), model.example_condition(3)
    noise = [SeededNoise.from_seeds([1, 2, 3]) for _ in range(4)]
    settings = LoraSettings(rank=3, alpha=5, targets=TARGETS.get(name, ATTENTION))
    with torch.no_grad():
        before = model(tokens, condition, noise=noise[0]).loss
    add_lora(model, settings)
    learned = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert learned and all(".lora_A." in key or ".lora_B." in key for key in learned)
    loss = model(tokens, condition, noise=noise[1]).loss
    torch.testing.assert_close(loss.detach(), before, rtol=1e-6, atol=1e-6)  # a LoRA adds nothing at first
    loss.backward()
    assert all((weight.grad is not None) == (key in learned) for key, weight in model.named_parameters())
    for layer in (layer for layer in model.modules() if isinstance(layer, LoraLinear)):
        for weight in (*layer.lora_A, *layer.lora_B):
            torch.nn.init.normal_(weight, std=0.3)
    whole = merged(model, settings)
    assert whole.state_dict().keys() == create_model(name, **find(name).tiny).state_dict().keys()
    with torch.no_grad():
        adapted, same = (one(tokens, condition, noise=noise[2 + place]).loss for place, one in
                         enumerate((model, whole)))
    assert abs(float(adapted) - float(before)) > 1e-3
    torch.testing.assert_close(same, adapted, rtol=1e-5, atol=1e-5)


def test_a_lora_of_voxcpm_learns_under_autocast():
    model = create_model("voxcpm-2", **find("voxcpm-2").tiny)
    add_lora(model, LoraSettings())
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(model.example_tokens(3), model.example_condition(3)).loss
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(weight.grad).all() for weight in model.parameters()
                                        if weight.requires_grad)


def test_targets_choose_the_parts_of_joined_layers():
    model = create_model("spark-tts-0.5b", **find("spark-tts-0.5b").tiny)
    add_lora(model, LoraSettings(rank=2, targets=["layers.0.self_attn.v_proj", "down_proj"]))
    names = {key.partition(".lora")[0] for key in lora_state(model)}
    assert names == {"model.layers.0.self_attn.v_proj", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}
    voxcpm = official_parts(create_model("voxcpm-2", **find("voxcpm-2").tiny))
    assert {name for parts in voxcpm.values() for name in parts} >= {
        "feat_decoder.estimator.decoder.layers.0.self_attn.q_proj", "fsq_layer.in_proj", "fusion_concat_proj",
        "feat_encoder.encoder.layers.0.mlp.gate_proj", "feat_decoder.estimator.delta_time_mlp.linear_2"}


@pytest.mark.parametrize(("settings", "message"), [
    ({"rank": 0}, r"task.lora.rank must be a whole number from 1 on, got 0"), ({"alpha": 0}, "above 0, got 0"),
    ({"dropout": 1.0}, "below 1, got 1.0"), ({"targets": "q_proj"}, "a list of names, got 'q_proj'"),
    ({"targets": ["to_q"]}, "no linear layer to_q; it has down_proj, gate_proj, k_proj")])
def test_wrong_settings_of_a_lora_are_refused(settings, message):
    model = create_model("spark-tts-0.5b", **find("spark-tts-0.5b").tiny)
    with pytest.raises(ValueError, match=message):
        add_lora(model, LoraSettings(**settings))


def test_peft_reads_an_adapter_onto_qwen2(tmp_path):
    """Official weights and the adapter in transformers and peft: the logits of our adapted model."""
    torch.manual_seed(0)
    model = shake(create_model("spark-tts-0.5b", **find("spark-tts-0.5b").tiny), scale=0.2)
    own = model.config
    qwen = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=own.vocab_size, hidden_size=own.width, num_hidden_layers=own.depth, intermediate_size=own.hidden,
        num_attention_heads=own.num_heads, num_key_value_heads=own.num_kv_heads, tie_word_embeddings=True,
        rms_norm_eps=own.eps, rope_theta=own.rotary_base)).eval()
    qwen.load_state_dict(model.original_state_dict(), strict=False)
    settings = LoraSettings(rank=3, alpha=7, targets=("q_proj", "v_proj", "up_proj"))
    add_lora(model, settings)
    for key, weight in model.named_parameters():
        if ".lora_" in key:
            torch.nn.init.normal_(weight, std=0.3)
    write_adapter(tmp_path, lora_state(model), rank=3, alpha=7, targets=settings.targets, base="somewhere")
    ids = torch.randint(own.vocab_size, (1, 9))
    with torch.no_grad():
        plain = qwen(ids).logits
        adapted = PeftModel.from_pretrained(qwen, tmp_path).eval()(ids).logits
        ours = model.logits(model.states(ids, torch.ones(1, 9, dtype=torch.bool)))
    assert (adapted - plain).abs().max() > 0.1
    torch.testing.assert_close(ours, adapted, rtol=1e-4, atol=1e-4)


def test_a_release_learns_four_examples_and_speaks_from_its_folder(release, tmp_path):
    name, source, _ = release
    run = trainer(release, tmp_path / "run", steps=150, learning_rate=1e-2)
    before = whole_loss(run.task)
    run.run()
    after = whole_loss(run.task)
    assert after < (0.6 if name.startswith("voxcpm") else 0.1) * before
    check_export(release, tmp_path / "run" / "export")


def check_export(release, export):
    """``original`` is the release with other weights, which are those of our folder, and it speaks."""
    name, source, _ = release
    pipeline = loaded(release, export / "original")
    ours = type(pipeline.speech_generator).from_pretrained(export)
    before = loaded(release, source).speech_generator.state_dict()
    changed = 0
    for key, value in pipeline.speech_generator.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key]), key
        changed += not torch.equal(value, before[key])
    assert changed
    files = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
             for folder in (source, export / "original")]
    assert files[0] == files[1]
    voice = Voice(recording(16000), 16000, None) if not name.startswith("voxcpm") else None
    result = pipeline("a hen.", voice=voice, generator=seeded(1)[0])
    assert result.audio[0].ndim == 1


def test_a_lora_is_exported_merged_and_as_an_adapter_and_goes_on_exactly(release, tmp_path):
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert trainer(release, whole, lora=lora, steps=12).run() == 12
    assert trainer(release, stopped, lora=lora, steps=12).run(max_seconds=0) == 1
    again = trainer(release, stopped, resume=True, lora=lora, steps=12)
    assert again.step == 1 and again.run() == 12
    for place in ("checkpoints/step-00000012/ema.safetensors", "export/adapter/adapter_model.safetensors",
                  "export/diffusion_pytorch_model.safetensors"):
        assert (whole / place).read_bytes() == (stopped / place).read_bytes(), place
    check_export(release, whole / "export")
    settings = json.loads((whole / "export" / "adapter" / "adapter_config.json").read_text())
    assert settings["r"] == 4 and settings["lora_alpha"] == 8 and settings["peft_type"] == "LORA"
    adapter = load_file(whole / "export" / "adapter" / "adapter_model.safetensors")
    assert all(key.startswith("base_model.model.") and value.shape[0 if "lora_A" in key else 1] == 4
               for key, value in adapter.items())
    with pytest.raises(ValueError, match=r"task.lora.rank 4, now 5"):
        trainer(release, stopped, resume=True, lora={**lora, "rank": 5}, steps=12)


def test_shards_of_a_release_are_replaced_by_one_file(tmp_path):
    source = tmp_path / "sharded"
    source.mkdir()
    write_voxcpm(source, "v2")
    from huggingface_hub import save_torch_state_dict
    state = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    save_torch_state_dict(state, source, filename_pattern="model{suffix}.safetensors", max_shard_size="50KB")
    assert len(list(source.glob("model-*.safetensors"))) > 1
    (source / ".cache").mkdir()
    (source / ".cache" / "lock").write_text("")
    trainer(("voxcpm-2", source, {}), tmp_path / "run", steps=1).run()
    files = {path.name for path in (tmp_path / "run" / "export" / "original").iterdir()}
    assert "model.safetensors" in files and "audiovae.pth" in files and not any("-of-" in name for name in files)
    assert ".cache" not in files and "model.safetensors.index.json" not in files


@pytest.mark.parametrize(("init_from", "model", "message"), [
    ("FOLDER", {}, "model.name is None; give one name of the registry, such as model.name=voxcpm-0.5b"),
    ("spark-tts-0.5b", {"name": "voxcpm-2"}, "give one name of the registry"),
    ("FOLDER", {"name": "spark-tts-0.5b"}, "holds no LLM/model.safetensors of spark-tts-0.5b"),
    ("nowhere.pt", {"name": "spark-tts-0.5b"}, "no such checkpoint file: nowhere.pt")])
def test_what_cannot_be_started_from_is_said(init_from, model, message, tmp_path):
    path = tmp_path / "examples.safetensors"
    write_examples(path, [torch.zeros(2, dtype=torch.long)], [torch.zeros(3, dtype=torch.long)])
    (tmp_path / "release").mkdir()
    config = TrainConfig(str(path), model=model, init_from=init_from.replace("FOLDER", str(tmp_path / "release")))
    with pytest.raises(ValueError, match=message):
        speech_generator_task(config)


@pytest.mark.parametrize("name", ["kalle", "pocket"])
def test_other_continuous_families_train_on_shards(name, tmp_path):
    from photophone import list_models
    entry = next(entry for entry in list_models("generator") if entry.name.startswith(name))
    model = create_model(entry.name, **arguments(entry))
    tokens = model.example_tokens(2)
    rows = [values[mask] for values, mask in zip(tokens.values, tokens.mask)]
    write_examples(tmp_path / "shard.safetensors", [torch.arange(3), torch.arange(4)], rows)
    family = entry.training_name or entry.family
    config = TrainConfig(str(tmp_path / "shard.safetensors"), steps=2, task={"positions": 40},
                         model={"family": family, **arguments(entry)}, **SETTINGS)
    assert Trainer(speech_generator_task(config), config, tmp_path / "run").run() == 2
    assert type(model).from_pretrained(tmp_path / "run" / "export").config.width == model.config.width


