"""Compare our models with tensors that official code made.

A directory of such tensors ("a golden") holds ``config.json``, the official weights as ``*.safetensors`` under their
official names, and ``io.safetensors``: inputs ``in_*``, intermediates ``mid_*``, results ``out_*``. The adaptor of a
system is the file ``SYSTEM.py`` beside this one. It maps names to calls and holds no sizes: all come from the config,
because the same adaptor serves every golden of its system::

    from golden import Golden, System

    system = System("titok")

    @system.part("mid_vq_*", "out_vq_*")                 # shell patterns of the tensors this part answers for
    def vq(golden: Golden):
        model = golden.load(TiTok, "titok_vq", **config_of(golden.settings["titok_vq"]))   # through from_original
        tokens = model.encode(golden["in_image"] * 2 - 1)
        return {"out_vq_codes": tokens.values, ...}      # what it made; names that were not recorded are ignored

    @system.part("out_generate_*", tolerance=1e-4)       # sampling loops; relative=True divides by max |expected|
    def generate(golden: Golden):
        noise = golden.replay("sample_cfg")              # from config["draws"]; checked to be used up after the part
        ...

    system.skip("mid_freqs_*", reason="a table that our model does not store; the logits cover it")

Parts of one system can be added one by one: until then their tensors are misses. A tensor passes when a part made it
with the same shape and kind (integer, bool or float) and

- integers and bools: it is equal;
- floats: max |difference| <= tolerance (1e-5 unless the part says otherwise), or 16 float32 roundings of the largest
  |expected| of the tensor where that is more, which it is above 5.2; infinities must match, NaN never passes.

Why the second: float32 cannot do better. A sum is as exact as its largest terms, so where values reach 36 (an encoder
of xcodec2) or 60 (hertz), the official result itself is 5 to 6 such roundings away from what the same code makes in
float64, in small values as in large ones, and another processor or thread count moves it by as much. In tensors of
smaller values the plain tolerance decides.

A part runs under ``torch.no_grad()``. What it raises makes its tensors misses, and the other parts still run.
"""

from __future__ import annotations

import importlib.util
import json
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from photophone.core.noise import ReplayNoise

HERE = Path(__file__).parent
KINDS = {"randn": "normal", "randn_like": "normal", "rand": "uniform", "rand_like": "uniform",
         "np.random.shuffle result": "permutation", "multinomial exponential": "exponential",
         "random.random": "uniform", "random.randint": "integers", "random.randrange": "integers",
         "randint": "integers"}
"""Functions that official code drew from, and the kind of :class:`ReplayNoise` that repeats them."""


ROUNDINGS = 16 * torch.finfo(torch.float32).eps
"""What float32 may lose, as a share of the largest value of a tensor."""


class Golden:
    """One directory.

    Attributes:
        config: ``config.json``.
        settings: its part with the constructor arguments, which some call "config" and some "constructor".
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        self.settings: dict[str, Any] = self.config.get("config", self.config.get("constructor", self.config))
        self.io = load_file(self.folder / "io.safetensors")
        self.replays: list[ReplayNoise] = []

    def __getitem__(self, name: str) -> Tensor:
        """A recorded tensor."""
        return self.io[name]

    def __contains__(self, name: str) -> bool:
        return name in self.io

    def names(self, pattern: str) -> list[str]:
        """Recorded names that match a shell pattern, numbers in their order."""
        numbers = [(len(name), name) for name in self.io if fnmatchcase(name, pattern)]
        return [name for _, name in sorted(numbers)]

    def path(self, stem: str = "weights") -> Path:
        """The weights file ``stem.safetensors``."""
        return self.folder / f"{stem}.safetensors"

    def state(self, stem: str = "weights") -> dict[str, Tensor]:
        """The official weights of one file, for systems that load a part of it."""
        return load_file(self.path(stem))

    def load(self, model: type, stem: str = "weights", **config: Any) -> Any:
        """A model of ours with official weights, through its public ``from_original``."""
        return model.from_original(self.path(stem), **config)

    def draws(self, scope: str) -> list[tuple[str, Tensor]]:
        """(function, recorded draw) pairs of one scope of ``config["draws"]``, in the order they were made."""
        return [(function, self.io[name]) for name, function, *_ in self.config["draws"][scope]]

    def replay(self, scope: str) -> ReplayNoise:
        """All draws of a scope as a noise source; shuffles that follow each other become one (rows, length) draw."""
        records: dict[str, list[Tensor]] = {kind: [] for kind in KINDS.values()}
        previous = None
        for function, draw in self.draws(scope):
            kind = KINDS[function]
            if kind != "permutation":
                records[kind].append(draw)
            elif previous == kind:
                records[kind][-1] = torch.cat([records[kind][-1], draw[None]])
            else:
                records[kind].append(draw[None])
            previous = kind
        return self.noise(**records)

    def noise(self, **records: Iterable[Tensor]) -> ReplayNoise:
        """A noise source that replays these draws (see :class:`ReplayNoise`) and must be used up by the part."""
        self.replays.append(ReplayNoise(**records))
        return self.replays[-1]


Function = Callable[[Golden], dict[str, Tensor]]


@dataclass(frozen=True)
class Part:
    """A function and the tensors it answers for."""

    function: Function
    patterns: tuple[str, ...]
    tolerance: float
    relative: bool

    def covers(self, name: str) -> bool:
        """Whether this part answers for the tensor of this name."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)


@dataclass(frozen=True)
class Verdict:
    """How one tensor fared; ``status`` is "ok", "skip" or "MISS"."""

    name: str
    shape: tuple[int, ...]
    status: str
    difference: float = float("nan")
    relative: float = float("nan")
    tolerance: str = ""
    note: str = ""


class System:
    """The adaptor of one system: parts and named skips. The first part whose pattern fits a tensor answers for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[Part] = []
        self.skips: list[tuple[str, str]] = []

    def part(self, *patterns: str, tolerance: float = 1e-5, relative: bool = False) -> Callable[[Function], Function]:
        """Decorator: the function makes the tensors that match ``patterns``."""
        def register(function: Function) -> Function:
            self.parts.append(Part(function, patterns, tolerance, relative))
            return function
        return register

    def skip(self, *patterns: str, reason: str) -> None:
        """Tensors that are not compared, and why."""
        self.skips += [(pattern, reason) for pattern in patterns]

    def compare(self, golden: Golden) -> list[Verdict]:
        """Judge every tensor, on one thread as the official code ran: more of them sum in another order, which differs
        by more than the tolerance where values are large."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._compare(golden)
        finally:
            torch.set_num_threads(threads)

    def _compare(self, golden: Golden) -> list[Verdict]:
        """A verdict on every ``out_*`` and ``mid_*`` tensor."""
        wanted = [name for name in sorted(golden.io) if name.startswith(("out_", "mid_"))]
        owners: dict[str, Part] = {}
        verdicts: dict[str, Verdict] = {}
        for name in wanted:
            shape = tuple(golden[name].shape)
            reason = next((reason for pattern, reason in self.skips if fnmatchcase(name, pattern)), None)
            owner = next((part for part in self.parts if part.covers(name)), None)
            if reason is not None:
                verdicts[name] = Verdict(name, shape, "skip", note=reason)
            elif owner is None:
                verdicts[name] = Verdict(name, shape, "MISS", note="no part answers for it")
            else:
                owners[name] = owner
        for part in dict.fromkeys(owners.values()):
            names = [name for name, owner in owners.items() if owner is part]
            made, error = run_part(part, golden)
            for name in names:
                verdicts[name] = judge(name, golden[name], made.get(name), part, error)
        return [verdicts[name] for name in wanted]


def run_part(part: Part, golden: Golden) -> tuple[dict[str, Tensor], str | None]:
    """What a part made, and what went wrong."""
    golden.replays.clear()
    try:
        with torch.no_grad():
            made = part.function(golden)
    except Exception as error:  # whatever it is, the other parts are still to be compared
        traceback.print_exc()
        return {}, f"{part.function.__name__} raised {type(error).__name__}, see above"
    left = [noise.used for noise in golden.replays if not noise.exhausted]
    return made, f"{part.function.__name__} left recorded draws over, used only {left}" if left else None


def kind_of(tensor: Tensor) -> str:
    """"bool", "integer" or "float"."""
    return "bool" if tensor.dtype == torch.bool else "float" if tensor.is_floating_point() else "integer"


def judge(name: str, expected: Tensor, made: Tensor | None, part: Part, error: str | None = None) -> Verdict:
    """Compare one tensor."""
    shape = tuple(expected.shape)
    if made is None:
        return Verdict(name, shape, "MISS", note=error or f"{part.function.__name__} did not make it")
    if tuple(made.shape) != shape or kind_of(made) != kind_of(expected):
        return Verdict(name, shape, "MISS", note=f"ours is {made.dtype} {tuple(made.shape)}, "
                                                 f"theirs {expected.dtype} {shape}")
    same = made == expected  # infinities have no difference, but may be equal
    distance = torch.where(same, 0.0, (made.double() - expected.double()).abs())
    difference = distance.max().item() if distance.numel() else 0.0
    finite = expected[torch.isfinite(expected)].double().abs()
    largest = finite.max().item() if finite.numel() else 0.0
    relative = difference / largest if largest else difference
    if kind_of(expected) != "float":
        passed, tolerance = bool(same.all()), "equal"
    else:
        allowed = part.tolerance if part.relative else max(part.tolerance, ROUNDINGS * largest)
        passed = (relative if part.relative else difference) <= allowed  # NaN fails
        tolerance = f"{allowed:.3g} {'rel' if part.relative else 'abs'}"
    return Verdict(name, shape, "ok" if passed and error is None else "MISS", difference, relative, tolerance,
                   error or "")


def load_system(golden: Golden, name: str | None = None) -> System:
    """The adaptor of a golden: by its "system", else by the name of its folder or of the folder above.

    Raises:
        ValueError: there is no adaptor.
    """
    names = [name] if name else [golden.config.get("system"), golden.folder.resolve().name,
                                 golden.folder.resolve().parent.name]
    for candidate in filter(None, names):
        file = HERE / f"{candidate}.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location(f"golden_{candidate}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.system
    raise ValueError(f"{golden.folder}: no adaptor for any of {[name for name in names if name]} in {HERE}")
