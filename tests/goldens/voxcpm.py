"""VoxCPM 1 and 2: AudioVAE, local encoder, local DiT with its solver, scalar bottleneck, losses, generation."""

from __future__ import annotations

import re

import torch
from golden import Golden, System
from torch import Tensor

from photophone.codecs.audio_vae.config import codec_config
from photophone.codecs.audio_vae.model import AudioVAE
from photophone.core.tokens import Tokens
from photophone.generators.speech_sequence import SpeechSequence
from photophone.generators.voxcpm.config import generator_config
from photophone.generators.voxcpm.model import VoxCPM
from photophone.generators.voxcpm.sampler import VoxCPMSampler
from photophone.heads.prefix_dit import pack_condition
from photophone.layers.flow import sway_grid, time_grid, without_first_steps
from photophone.layers.left_padding import attention_mask, positions

system = System("voxcpm")
FILES = {"v1": "voxcpm", "v2": "voxcpm2"}


def told(golden: Golden, name: str, pattern: str, default: float) -> float:
    """A number of the recorded call, as config.json describes it."""
    found = re.search(pattern, str(golden.config["how"].get(name, "")))
    return float(found[1]) if found else default


def versions(golden: Golden) -> list[str]:
    return [version for version in FILES if version in golden.settings]


def load_vae(golden: Golden, version: str) -> AudioVAE:
    state = {key: value for key, value in golden.state(FILES[version]).items() if key.startswith("audio_vae.")}
    return AudioVAE.from_original(state, **codec_config(golden.settings[version]["audio_vae_config"],
                                                        version == "v2"))


def load_model(golden: Golden, version: str) -> VoxCPM:
    return golden.load(VoxCPM, FILES[version], **generator_config(golden.settings[version], version == "v2"))


@system.part("out_v?_vae_*")
def audio_vae(golden: Golden):
    made = {}
    for version in versions(golden):
        model = load_vae(golden, version)
        tokens = Tokens(golden[f"in_{version}_z"].transpose(1, 2))
        with model.streaming():
            parts = [model.decode(Tokens(part)) for part in tokens.values.split(golden.settings["io"]["chunk"], dim=1)]
        made |= {f"out_{version}_vae_encode": model.encode(golden[f"in_{version}_wav"]).values.transpose(1, 2),
                 f"out_{version}_vae_decode": model.decode(tokens),
                 f"out_{version}_vae_decode_sr": model.decode(tokens, rate=int(told(
                     golden, "out_v2_vae_decode_sr", r"tensor\(\[(\d+)\]\)", 24000))),
                 f"out_{version}_vae_streaming": torch.cat(parts, dim=-1)}
    return made


def condition(golden: Golden, version: str) -> Tensor:
    return pack_condition(golden[f"in_{version}_dit_mu"], golden[f"in_{version}_dit_cond"].transpose(1, 2))


@system.part("out_v?_locenc", "out_v?_locdit", "out_v?_fsq", "mid_v?_base_lm")
def parts(golden: Golden):
    made = {}
    for version in versions(golden):
        model = load_model(golden, version)
        patches = golden[f"in_{version}_patches"]
        batch = sequence(golden, version)
        known = golden[f"in_{version}_text_mask"] + golden[f"in_{version}_audio_mask"]
        embedded = model.embed(batch)[0] * known[..., None]  # zero behind the end of a row
        made |= {
            f"out_{version}_locenc": model.patch_encoder(patches.flatten(0, 1)).unflatten(0, patches.shape[:2]),
            f"out_{version}_locdit": model.token_head.net(
                golden[f"in_{version}_dit_x"].transpose(1, 2), golden[f"in_{version}_dit_t"],
                condition(golden, version)).transpose(1, 2),
            f"out_{version}_fsq": model.state_bottleneck(golden[f"in_{version}_fsq"]),
            f"mid_{version}_base_lm": model.base_lm(embedded, attention_mask(batch.mask),
                                                    model.rotary(positions(batch.mask)))}
    return made


@system.part("out_v?_cfm*", tolerance=1e-4)
def solver(golden: Golden):
    made, steps = {}, golden.settings["io"]["n_timesteps"]
    sway = without_first_steps(sway_grid(steps, dtype=torch.float32))
    scales = [told(golden, f"out_vX_{name}", r"cfg_value=([\d.]+\d)", default) for name, default in
              (("cfm", 2.0), ("cfm_plain", 1.5))]
    settings = {"cfm": {"guidance": scales[0], "times": sway, "scaled_guidance": True},
                "cfm_plain": {"guidance": scales[1], "times": time_grid(steps, dtype=torch.float32)}}
    for version in versions(golden):
        model, states = load_model(golden, version), golden[f"in_{version}_dit_mu"]
        previous = golden[f"in_{version}_dit_cond"].transpose(1, 2)
        hidden = torch.cat([condition(golden, version), pack_condition(torch.zeros_like(states), previous)])
        for name, options in settings.items():
            noise = golden.noise(normal=[golden[f"in_noise_{version}_{name}"].transpose(1, 2)])
            made[f"out_{version}_{name}"] = model.token_head.sample(hidden, noise=noise, **options).transpose(1, 2)
    return made


def sequence(golden: Golden, version: str, *where) -> SpeechSequence:
    ids, audio, patches = (golden[f"in_{version}_{name}"] for name in ("text_tokens", "audio_mask", "audio_feats"))
    every = torch.ones_like(audio).bool()
    return SpeechSequence(*(part[where] if where else part for part in (ids, audio.bool(), patches, every)))


@system.part("out_v?_loss_*")
def losses(golden: Golden):
    """Draws without effect (noise on the patch before, times of MeanFlow) are not made by our loss."""
    made = {}
    for version in versions(golden):
        model = load_model(golden, version).train()  # rows lose their condition in training only
        draws = [golden[name] for name in golden.names(f"in_noise_{version}_loss_*")]
        dropped = draws[:1] if model.config.condition_drop > 0 else []
        time, eps = draws[-3], draws[-1].transpose(1, 2)
        times = {"logit_normal": "normal", "uniform": "uniform"}[model.config.time_distribution]
        records = {"uniform": dropped, "normal": []}
        records[times] = [*records[times], time[:, None, None]]
        records["normal"] = [*records["normal"], eps[:, None]]
        made[f"out_{version}_loss_diff"], made[f"out_{version}_loss_stop"] = model.losses(
            sequence(golden, version), golden[f"in_{version}_loss_mask"], golden[f"in_{version}_labels"],
            golden.noise(**records))
    return made


def generated(golden: Golden, version: str, kind: str, count: int) -> dict[str, Tensor]:
    """Tokens of one sequence as the official code gives them: with those of a prompt in front."""
    settings, model = golden.settings["io"], load_model(golden, version)
    batch = sequence(golden, version, slice(0, 1), slice(0, count))
    noise = golden.noise(normal=[golden[name].transpose(1, 2)
                                 for name in golden.names(f"in_noise_{version}_gen_{kind}_*")])
    sampler = VoxCPMSampler(min_patches=settings["min_len"], max_patches=settings["max_len"],
                            num_inference_steps=settings["n_timesteps"],
                            guidance_scale=told(golden, "out_vX_gen_prompt_*", r"cfg_value=([\d.]+\d)", 2.0))
    tokens = model.generate(batch, noise=noise, sampler=sampler)
    prompt = batch.patches[batch.audio_mask].flatten(0, 1)
    whole = torch.cat([model.context(prompt), tokens.values[0]])
    shown = tokens.values[0] if version == "v2" else whole
    return {f"out_{version}_gen_{kind}_latent": whole.T[None],
            f"out_{version}_gen_{kind}_feat": model.split_patches(shown)}


@system.part("out_v?_gen_*", tolerance=1e-4)
def generation(golden: Golden):
    made = {}
    text, prompt = re.search(r"first (\d+) text \+ (\d+) audio", str(golden.config["how"])).groups()
    for version in versions(golden):
        made |= generated(golden, version, "text", int(text))
        made |= generated(golden, version, "prompt", int(text) + int(prompt))
    return made
