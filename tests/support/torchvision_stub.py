"""A package ``torchvision`` in a folder: all that is imported from it exists, and fails when it is used."""

from __future__ import annotations

from pathlib import Path

_STUB = """
import enum, sys, types
from importlib.machinery import ModuleSpec

__version__ = "0.28.0"
Names = "NEAREST NEAREST_EXACT BILINEAR BICUBIC BOX HAMMING LANCZOS"
InterpolationMode = enum.Enum("InterpolationMode", {name: name.lower().replace("_", "-") for name in Names.split()})

def used(*args, **options):
    raise AssertionError("torchvision was used")

class Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return InterpolationMode if name == "InterpolationMode" else used

class Finder:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.startswith("torchvision.") else None

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.append(Finder())
"""


def write_stub(folder: Path, code: str = _STUB) -> Path:
    """A folder for ``PYTHONPATH`` with a torchvision that is installed."""
    (folder / "torchvision").mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").write_text(code)
    facts = folder / "torchvision-0.28.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    return folder
