"""Adds the compiled C++ code to wheels; everything else stands in pyproject.toml.

``pip wheel .`` compiles it on Linux on x86-64, and the wheel is for that platform and any Python 3. Without a compiler,
and elsewhere, the wheel is for all platforms, and the code is compiled where it is first used.
"""

import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path("photophone", "kernels", "native")


class BuildWithCode(build_py):
    """Puts the libraries beside their sources. An editable install has none: the sources may change."""

    made: list[Path] = []

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        build = runpy.run_path(str(NATIVE / "build.py"))
        made, failed = build["build_levels"](NATIVE, Path(self.build_lib) / NATIVE)
        type(self).made = made
        for line in failed:
            self.warn(line)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self.made)]


class PerhapsWithCode(Distribution):
    """Tells where files are installed: a package with compiled code belongs to the platform."""

    def has_ext_modules(self) -> bool:
        return bool(BuildWithCode.made)


class WheelWithCode(bdist_wheel):
    """A wheel for one platform where there is compiled code in it; it is loaded by ctypes, so any Python 3 will do."""

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not BuildWithCode.made
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        if not BuildWithCode.made:
            return super().get_tag()
        return "py3", "none", super().get_tag()[2]


setup(distclass=PerhapsWithCode, cmdclass={"build_py": BuildWithCode, "bdist_wheel": WheelWithCode})
