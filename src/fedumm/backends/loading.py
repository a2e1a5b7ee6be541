"""What all backends do when they load a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedumm.data.hub_access import explain_hub_error
from fedumm.errors import FedummError
from fedumm.libraries import likely_cause


@contextmanager
def explained(where: str, what: str) -> Iterator[None]:
    """Whatever loading from ``where`` raises, as a :class:`FedummError`.

    Args:
        where: a folder or a Hub id.
        what: what should be there, such as ``a BLIP VQA model``.
    """
    try:
        yield
    except FedummError:
        raise
    except Exception as error:
        if package := _missing_package(error):
            fitting = " (of the build that fits torch)" if package == "torchvision" else ""
            raise FedummError(
                f"{where} is of a family whose classes in transformers need the package {package}, which is not "
                f"installed: install {package}{fitting} on each host, or choose another model."
            ) from error
        if Path(where).is_dir():
            raise FedummError(f"{where} does not hold {what}: {error}{likely_cause()}") from error
        raise explain_hub_error("model", where, error, "") from error


def _missing_package(error: BaseException) -> str:
    """The package for want of which transformers gave up; empty: it was something else."""
    found = re.search(r"requires the (\S+) library|Missing optional dependencies: ([\w-]+)", str(error))
    return next(filter(None, found.groups())).lower() if found else ""
