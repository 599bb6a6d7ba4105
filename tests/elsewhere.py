"""A second device for tests on machines that have none: it computes on the CPU, and mixes with nothing.

Within :class:`Elsewhere`, ``tensor.to(AWAY)`` gives a tensor that says it lies on the device AWAY. An operation on
tensors of two devices raises, as it does on a GPU; so a model that forgets to move its input is found, and what it
makes can still be compared with what it makes on the CPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from photophone.kernels import dispatch

AWAY = torch.device("cuda:0")
"""The one device that torch lets tensors lie on by name alone, as its own fake tensors do."""
ANY_DEVICE = {"index.Tensor", "index_put.default", "index_put_.default", "_index_put_impl_.default"}
"""Operations whose indices may lie on the CPU."""
MOVES = {"_to_copy.default", "copy_.default"}


def lstm_cell(inputs, hidden, cell, input_bias=None, hidden_bias=None):
    """The fused cell of a GPU, which the CPU has no kernel for."""
    gates = inputs + hidden
    for bias in (input_bias, hidden_bias):
        gates = gates if bias is None else gates + bias
    enter, forget, content, leave = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
    return leave.sigmoid() * cell.tanh(), cell, gates


INSTEAD = {"_thnn_fused_lstm_cell.default": lstm_cell}


class Away(torch.Tensor):
    """A tensor on AWAY; ``held`` is its value on the CPU."""

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, held.stride(), held.storage_offset(),
                                                   dtype=held.dtype, device=AWAY, requires_grad=requires_grad)

    def __init__(self, held, requires_grad=False):
        self.held = held.detach()

    def __repr__(self):
        return f"Away({self.held})"

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """The context in which AWAY exists."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that torch does not look for a driver

    def __enter__(self):
        torch._C._ensureCUDADeviceGuardSet()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=AWAY) is made here, then moved
        self.before = dispatch.MODE, torch.backends.cudnn.enabled
        dispatch.MODE, torch.backends.cudnn.enabled = "reference", False  # both ask the driver
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # weights become tensors of this file's class
        return super().__enter__()

    def __exit__(self, *error):
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        torch._C._set_only_lift_cpu_tensors(False)
        dispatch.MODE, torch.backends.cudnn.enabled = self.before
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def run(function, args, kwargs):
    """An operation on the values, with its result where the arguments lie."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Away)]
    name = function._schema.name.removeprefix("aten::") + "." + (function._overloadname or "default")
    here = [tensor for tensor in tensors if not isinstance(tensor, Away) and tensor.dim()]  # numbers mix with all
    first = isinstance(args[0], Away) if args and isinstance(args[0], torch.Tensor) else bool(away)
    if away and here and name not in MOVES and not (name in ANY_DEVICE and first):
        raise RuntimeError(f"{name}: tensors on {AWAY} and on the CPU, {[tuple(t.shape) for t in here]}")
    given = kwargs.get("device")
    to_away = bool(away) if given is None else torch.device(given) == AWAY
    if name == "copy_.default":
        to_away = first
    if given is not None and torch.device(given) == AWAY:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    values = tree_map(lambda leaf: leaf.held if isinstance(leaf, Away) else leaf, (args, kwargs))
    made = INSTEAD.get(name, function)(*values[0], **values[1])
    if not to_away:
        return made
    known = {id(tensor.held): tensor for tensor in away}  # what works in place gives back what it got
    return tree_map(lambda leaf: known.get(id(leaf)) if id(leaf) in known else Away(leaf)
                    if isinstance(leaf, torch.Tensor) else leaf, made)
