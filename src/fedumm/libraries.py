"""Which versions of the libraries this version of fedumm was tested with."""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib.metadata import PackageNotFoundError, version

from fedumm.texts import one_line

TESTED = {
    "torch": "2.13.0",
    "transformers": "5.24.0",
    "peft": "0.21.2",
    "datasets": "5.2.0",
    "huggingface_hub": "2.4.0",
    "accelerate": "1.15.0",
    "nvflare": "2.9.0",
}
"""The newest of each, as in ``constraints.txt``: of the libraries whose changes have broken programs before."""


def installed_versions() -> dict[str, str]:
    """The version of each library of :data:`TESTED`; empty if it is not there."""
    return {name: _installed(name) for name in TESTED}


def newer_than_tested() -> str:
    """One sentence on installed libraries that are newer than :data:`TESTED`; empty if none is. Imports none."""
    found = installed_versions()
    newer = [name for name, own in found.items() if _numbers(own) > _numbers(TESTED[name])]
    texts = [f"{name} {found[name]} (tested: {TESTED[name]})" for name in newer]
    return f"Newer than this version of fedumm was tested with: {', '.join(texts)}." if texts else ""


def likely_cause() -> str:
    """What to add to an error that may come from inside a library: `` (Likely cause: ...)``, or nothing."""
    if unfit := _unfit_torchvision():
        return f"\nLikely cause: {unfit}"
    newer = newer_than_tested()
    if not newer:
        return ""
    wanted = " ".join(f"'{name}<={TESTED[name]}'" for name in TESTED if f" {name} " in newer)
    return f"\nLikely cause: a library changed. {newer} Try: pip install {wanted}"


def _unfit_torchvision() -> str:
    """What is wrong with a torchvision that is installed, which ``transformers`` then insists on; empty if nothing."""
    if importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return (
            f"the installed torchvision does not fit this torch ({one_line(error)}). It is not needed here: "
            "pip uninstall torchvision"
        )
    return ""


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    """``(5, 24, 0)`` of ``5.24.0.dev1+cpu``."""
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, release[0].split("."))) if release else ()
