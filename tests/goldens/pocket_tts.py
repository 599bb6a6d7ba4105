"""Pocket TTS: the codec both ways, heads of one step and their losses, voice prompts, generation, the training loss."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.codecs.continuous_mimi.config import codec_config
from photophone.codecs.continuous_mimi.model import ContinuousMimi
from photophone.core.tokens import Tokens
from photophone.data.voice_prompts import end_on_pause
from photophone.decoding.loop import KVCache
from photophone.generators.pocket_tts.config import generator_config
from photophone.generators.pocket_tts.model import PocketTTS
from photophone.generators.pocket_tts.sampler import PocketTTSSampler
from photophone.heads.one_step_losses import Drift, SelfDistillation

system = System("pocket_tts")


def settings_of(golden: Golden, prefix: str = "") -> dict:
    return golden.settings["drifting" if prefix else "model"]


def load_model(golden: Golden, prefix: str = "", **changes) -> PocketTTS:
    config = generator_config(settings_of(golden, prefix))
    config["head"] |= changes
    return golden.load(PocketTTS, "drifting" if prefix else "weights", **config)


def prefixes(golden: Golden) -> list[str]:
    return ["", "drifting_"] if "drifting" in golden.settings else [""]


def with_weighting(golden: Golden, head: torch.nn.Module) -> torch.nn.Module:
    head.objective.weighting.load_state_dict(golden.state("lsd_weighting"))
    return head


@system.part("out_encode", "out_decode*")
def codec(golden: Golden):
    model = golden.load(ContinuousMimi, **codec_config(settings_of(golden)["mimi"]))
    values = golden["in_z"]
    made = {"out_encode": model.encode(golden["in_audio"]).values, "out_decode": model.decode(Tokens(values))}
    for name, sizes in (("single", [1] * values.shape[1]), ("chunks", [2, 3, 1])):
        with model.streaming():
            parts = [model.decode(Tokens(part)) for part in values.split(sizes, dim=1)]
        made[f"out_decode_{name}"] = torch.cat(parts, dim=-1)
    return made


@system.part("out_pause")
def pause(golden: Golden):
    return {"out_pause": end_on_pause(golden["in_pause"][0], settings_of(golden)["mimi"]["sample_rate"])[None]}


@system.part("out_flow", "mid_flow_time", "out_lsd_[0-9]", "out_drifting_flow")
def flow(golden: Golden):
    made = {}
    for prefix in prefixes(golden):
        head = load_model(golden, prefix).token_head
        x, condition = golden[f"in_{prefix}flow_x"], golden[f"in_{prefix}flow_cond"]
        times = [golden[f"in_flow_{name}"] for name in "st" if head.net.time_embed]
        made[f"out_{prefix}flow"] = head.net(condition, *times, x)
        if times:
            made["mid_flow_time"] = head.net.time_embed[0](times[0])
        for name in golden.names("out_lsd_[0-9]") if not prefix else ():
            noise = golden.noise(normal=[x[:, None]])
            made[name] = head.sample(condition[:, None], noise=noise, num_steps=int(name.rpartition("_")[2]))[:, 0]
    return made


def gradient(head: torch.nn.Module, errors: Tensor) -> Tensor:
    (made,) = torch.autograd.grad(errors.mean(), head.net.input_proj.weight)
    return made


@system.part("out_lsd_minimal*", "out_lsd_classic*", "out_lsd_flow_*")
def self_distillation(golden: Golden):
    training, made = golden.settings["training"], {}
    for kind in ("minimal", "classic"):
        head = load_model(golden).token_head
        head.objective = SelfDistillation(training["w_dims"], training["w_depth"], flow_share=training["p_equal"],
                                          time_mean=training["mean"], time_std=training["std"],
                                          classic=kind == "classic")
        with_weighting(golden, head).eval()
        eps, data, condition = (golden[f"in_loss_{name}"][:, None] for name in ("noise", "data", "cond"))
        draws = [draw[:, None] for _, draw in golden.draws(f"lsd_{kind}")]

        def network(*inputs: Tensor, net=head.net, condition=condition) -> Tensor:
            return net(condition, *inputs)

        with torch.enable_grad():
            errors = head.objective(network, eps, data, golden.noise(normal=draws))
            made |= {f"out_lsd_{kind}": errors[:, 0].detach(), f"out_lsd_{kind}_grad": gradient(head, errors)}
        if kind == "minimal":
            noise = golden.noise(normal=draws)
            made |= {f"out_lsd_flow_{name}": term(network, eps, data, noise)[0].mean() for name, term in
                     (("diag", head.objective.flow_term), ("distill", head.objective.jump_term))}
    return made


@system.part("out_drifting_loss*")
def drifting(golden: Golden):
    training = golden.settings["training"]
    head = load_model(golden, "drifting_").token_head
    head.objective = Drift(training["num_neg"], training["temp"])
    ((_, draw),) = golden.draws("drifting_loss")
    with torch.enable_grad():
        errors = head.errors(golden["in_drifting_loss_cond"], golden["in_drifting_loss_data"],
                             golden.noise(normal=[draw.transpose(0, 1)]))[:, 0]
        return {"out_drifting_loss": errors.detach(), "out_drifting_loss_grad": gradient(head, errors)}


@system.part("out_train_*")
def training_loss(golden: Golden):
    """Draws that decide on dropped parts have no effect in eval mode and are not made by ours."""
    training = golden.settings["training"]
    multiplier, counts = training["multiplier"], golden["in_train_frames"]
    model = load_model(golden, batch_mul=multiplier, weighting_width=training["w_dims"],
                       weighting_depth=training["w_depth"])
    with_weighting(golden, model.token_head)
    voices = [row[:count] for row, count in zip(golden["in_train_voice"], golden["in_train_voice_frames"])]
    condition = model.prepare([golden[name].tolist() for name in golden.names("in_train_text_*")], voices)
    draws = [draw.unflatten(0, (multiplier, -1)).transpose(0, 1) for kind, draw in golden.draws("train")
             if kind != "rand"]
    noise = golden.noise(normal=draws)
    noise.parts = lambda counts: noise
    output = model.loss(Tokens(golden["in_train_latents"], counts), condition, noise=noise)
    return {"out_train_loss": output.loss, "out_train_flow_loss": output.metrics["flow_loss"],
            "out_train_eos_loss": output.metrics["end_loss"]}


@system.part("mid_*voice_prompt", "mid_*voice_cache")
def voices(golden: Golden):
    made = {}
    for prefix in prefixes(golden):
        model = load_model(golden, prefix)
        sequence = model.prepare([[0]], [golden[f"in_{prefix}voice"][0]])
        embedded = model.embed(sequence)
        attention = model.blocks[0].attention
        cache = KVCache(len(model.blocks), 1, attention.num_kv_heads, embedded.shape[1], attention.head_dim)
        model.states(embedded, sequence.mask, cache)
        made |= {f"mid_{prefix}voice_prompt": embedded[:, :-1],  # the text is no part of it
                 f"mid_{prefix}voice_cache": cache.layers[0].buffer[:, :, :, :-1].transpose(2, 3)}
    return made


@system.part("mid_*hidden", "out_*eos_logits", "out_*latents", "out_generated_audio", tolerance=1e-4)
def generation(golden: Golden):
    """The official loop draws a frame at the position where it stops and throws it away: ours does not."""
    made = {}
    for prefix in prefixes(golden):
        settings, model = golden.settings, load_model(golden, prefix)
        draws = [draw[:, None] for _, draw in golden.draws(f"{prefix}generate")]
        kept = golden[f"out_{prefix}latents"].shape[1]
        sampler = PocketTTSSampler(temperature=settings["temp"], end_threshold=settings["eos_threshold"],
                                   frames_after_end=settings["frames_after_eos"], max_frames=settings["frames"])
        sequence = model.prepare(golden[f"in_{prefix}text"].tolist(), [golden[f"in_{prefix}voice"][0]])
        tokens = model.generate(sequence, noise=golden.noise(normal=draws[:kept]), sampler=sampler)
        frames = model.normalise(tokens.values)
        states = model.speech_states(sequence, frames, torch.ones(1, frames.shape[1] + 1, dtype=torch.bool))
        states = states[:, :len(draws)]
        made |= {f"out_{prefix}latents": frames, f"mid_{prefix}hidden": states,
                 f"out_{prefix}eos_logits": model.end_logits(states)}
        if not prefix:
            codec = golden.load(ContinuousMimi, **codec_config(settings_of(golden)["mimi"]))
            made["out_generated_audio"] = codec.decode(tokens)
    return made
