"""Wrappings in which training scripts leave weights, as functions of the plain table.

docs/checkpoints.md lists them, with what the report says of each: `make tables` loads a small model from all.
"""

import argparse
from collections import OrderedDict

import numpy as np
import torch


def within(prefix, state):
    """The keys of a state behind a prefix."""
    return {f"{prefix}{key}": value for key, value in state.items()}


def optimizer():
    """The state of an optimiser."""
    return {"state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(3)}}, "param_groups": [{"lr": 1e-4}]}


def nested(state):
    """A table for each first name, as scripts write that save their modules one by one."""
    made = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if rest:
            made.setdefault(first, {})[rest] = value
        else:
            made[key] = value
    return made if any(isinstance(value, dict) for value in made.values()) else {"model": state}


WRAPPINGS = {
    "`module.` before all keys: DDP, DataParallel": lambda state: within("module.", state),
    "`_orig_mod.`: torch.compile": lambda state: within("_orig_mod.", state),
    "`_orig_mod.module.` and `module._orig_mod.`: both": lambda state: within("module._orig_mod.", state),
    "`_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.`": lambda state: within(
        "_fsdp_wrapped_module._checkpoint_wrapped_module.", state),
    "`_forward_module.`: Lightning Fabric": lambda state: within("_forward_module.", state),
    '`{"model": ...}` with optimiser, epoch and arguments': lambda state: {
        "model": state, "optimizer": optimizer(), "epoch": 3, "args": argparse.Namespace(lr=1e-4),
        "best": np.float64(0.5)},
    '`{"state_dict": ...}`, also with `module.`': lambda state: {"state_dict": OrderedDict(within("module.", state)),
                                                                "epoch": 7, "arch": "net"},
    '`{"module": ...}`: DeepSpeed': lambda state: {
        "module": state, "buffer_names": [], "optimizer": None, "global_steps": 3, "ds_version": "0.16",
        "dp_world_size": 2, "skipped_steps": 0},
    "Lightning: `state_dict` with `model.`, judges, losses and `hyper_parameters`": lambda state: {
        "state_dict": {**within("model.", state), "discriminator.conv.weight": torch.ones(2, 2),
                       "loss.perceptual_loss.lin0.weight": torch.ones(2)},
        "hyper_parameters": {"lr": 1e-4, "betas": (0.9, 0.99)}, "optimizer_states": [optimizer()], "epoch": 3,
        "global_step": 12, "pytorch-lightning_version": "2.5.0", "callbacks": {"x": {"best": torch.tensor(0.1)}},
        "loops": {"fit_loop": {"state_dict": {}}}},
    '`{"trainer": {"NAME_wo_ddp": ...}}`: VAR': lambda state: {
        "trainer": {"net_wo_ddp": state, "net_opt": {"optimizer": optimizer(), "scaler": None}}, "epoch": 3, "iter": 4},
    '`{"generator": ..., "discriminator": ...}`': lambda state: {
        "generator": state, "discriminator": {"conv.weight": torch.ones(2, 2)}, "optim_g": optimizer(), "steps": 12},
    "`generator.` and `discriminator.` before the keys": lambda state: {
        **within("generator.", state), **within("discriminator.", {"conv.weight": torch.ones(2, 2)})},
    '`{"models": [...]}`: accelerate': lambda state: {"models": [state], "optimizers": [optimizer()], "step": 3},
    "torch's `AveragedModel`: `n_averaged` beside `module.`": lambda state: {
        "n_averaged": torch.tensor(7), **within("module.", state)},
    "ema-pytorch: `ema_model.`, `online_model.`, `initted`, `step`": lambda state: {
        "step": 3, "ema": {**within("ema_model.", state), **within("online_model.", {
            key: value * 2 for key, value in state.items()}), "initted": torch.tensor(True),
            "step": torch.tensor(3)}},
    '`{"model": {"module": ...}}`, as deep as six levels': lambda state: {"a": {"b": {"model": {"module": state}}}},
    "numbers and texts beside the tensors": lambda state: {**state, "epoch": 3, "lr": 0.1, "name": "net",
                                                          "config": {"width": 3}, "history": [1, 2]},
}
"""{words: function of the plain table}."""
AVERAGES = {
    '`{"model": ..., "ema": ...}`': lambda raw, average: {"model": raw, "ema": average},
    '`{"params": ..., "params_ema": ...}`': lambda raw, average: {"params": raw, "params_ema": average},
    '`{"state_dict": ..., "state_dict_ema": ...}`': lambda raw, average: {
        "state_dict": raw, "state_dict_ema": average, "optimizer": optimizer()},
    '`{"generator": ..., "generator_ema": ...}`, with `module.`': lambda raw, average: {
        "generator": within("module.", raw), "generator_ema": within("module.", average)},
    "`model.` and `ema_model.` before the keys": lambda raw, average: {
        **within("model.", raw), **within("ema_model.", average)},
    "latent diffusion: `model_ema.` before keys without dots": lambda raw, average: {"state_dict": {
        **raw, **{f"model_ema.{key.replace('.', '')}": value for key, value in average.items()},
        "model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(7)}},
}
"""{words: function of the weights and of their running average}."""

OLD = (".weight_g", ".weight_v")
NEW = (".parametrizations.weight.original0", ".parametrizations.weight.original1")


def old_norms(state):
    """All weight norms under the names of old versions of torch."""
    return {key.replace(NEW[0], OLD[0]).replace(NEW[1], OLD[1]): value for key, value in state.items()}


def new_norms(state):
    """All weight norms under the names of torch 2.1 and later."""
    return {key.replace(OLD[0], NEW[0]).replace(OLD[1], NEW[1]): value for key, value in state.items()}


def folded_norms(state):
    """All weight norms multiplied out, as after ``remove_weight_norm``."""
    old, made = old_norms(state), {}
    for key, value in old.items():
        if key.endswith(OLD[0]):
            stem = key.removesuffix(OLD[0])
            axes = [axis for axis in range(value.ndim) if value.shape[axis] == 1]
            direction = old[stem + OLD[1]]
            made[f"{stem}.weight"] = value * direction / direction.pow(2).sum(axes, keepdim=True).sqrt()
        elif not key.endswith(OLD[1]):
            made[key] = value
    return made
