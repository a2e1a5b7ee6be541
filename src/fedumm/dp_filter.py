"""Client-level differential privacy as a filter of NVIDIA FLARE, for jobs that are not FedUMM's.

A site puts it into ``local/privacy.json``, below every scope's ``task_result_filters``, as
``{"path": "fedumm.dp_filter.ClientPrivacy", "args": {...}}``; then tasks' results are clipped, noisy differences of
weights, and at most as many as it allows, over all jobs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from fedumm.files import write_atomically
from fedumm.lazy import torch
from fedumm.privacy.accountant import Accountant

FILE = "fedumm/dp_filter.json"
"""Its place in a site's folder: how many answers have left."""


class ClientPrivacy(Filter):  # type: ignore[misc]
    """Clips the difference of weights in an answer and adds Gaussian noise to every value (McMahan et al., 2018,
    https://arxiv.org/abs/1710.06963), from the operating system's entropy.

    Everything else of an answer is left out: numbers of steps, metrics, headers; the names of tensors stay, which are
    the job's. An answer that is no difference of weights does not leave the site; FLARE tells the server of a failed
    filter then. What a job sends by other ways than its tasks' results (events, logs, auxiliary messages) passes no
    filter.

    Args:
        clip: highest L2 norm of all tensors together; a longer difference is scaled down to it.
        noise_multiplier: standard deviation of the noise on each value, in units of ``clip``.
        answers: how many may leave the site, over all jobs; :data:`FILE` counts them.
        delta: with which epsilon is stated.

    Raises:
        ValueError: a number is out of its range.
        FedummError: the package that states epsilon is not installed.
    """

    def __init__(self, clip: float, noise_multiplier: float, answers: int, delta: float = 1e-5) -> None:
        super().__init__()
        if not (0 < clip < 2.0**20 and 0 < noise_multiplier < 2.0**20 and answers >= 1 and 0 < delta < 1):
            raise ValueError("clip, noise_multiplier and answers must be positive, and delta between 0 and 1")
        self.clip, self.noise_multiplier, self.answers, self.delta = clip, noise_multiplier, answers, delta
        self.epsilon(1)  # before an answer is counted: what it needs may not be installed

    def epsilon(self, answers: int) -> float:
        """That of so many answers of this site together; neighbours are any two of its data sets."""
        return Accountant("local", self.noise_multiplier, 1.0, self.delta).epsilon(answers)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The answer that leaves.

        Raises:
            ValueError: it is no difference of weights, or holds what can't be clipped.
            PermissionError: as many answers as are allowed have left already.
        """
        dxo = from_shareable(shareable)
        if dxo.data_kind != DataKind.WEIGHT_DIFF:
            raise ValueError(f"a {dxo.data_kind} does not leave this site: have clients send differences (WEIGHT_DIFF)")
        private = _noisy(dxo.data, self.clip, self.noise_multiplier * self.clip)
        # On the disk before the answer leaves: one that is lost on the way counts as well.
        number = _count(Path(fl_ctx.get_engine().get_workspace().get_root_dir()) / FILE, self.answers)
        self.log_info(
            fl_ctx, f"answer {number} of {self.answers}, epsilon {self.epsilon(number):.2f} at delta {self.delta:g}"
        )
        result = Shareable()
        result.set_return_code(shareable.get_return_code())
        return DXO(DataKind.WEIGHT_DIFF, data=private).update_shareable(result)


def _noisy(data: Mapping[str, Any], clip: float, std: float) -> dict[str, Any]:
    from fedumm.privacy.mechanism import add_noise
    from fedumm.privacy.mechanism import clip as clipped

    tensors = {}
    for name, value in data.items():
        tensor = torch.from_numpy(np.asarray(value).copy()) if not isinstance(value, torch.Tensor) else value
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is of type {tensor.dtype}, and noise is for floating-point numbers")
        tensors[name] = tensor.detach().cpu()
    noisy = add_noise(clipped(tensors, clip)[0], std)
    return {name: t if isinstance(data[name], torch.Tensor) else t.numpy() for name, t in noisy.items()}


def _count(path: Path, most: int) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        number = 1 + (int(json.loads(path.read_text())["answers"]) if path.exists() else 0)
        if number > most:
            raise PermissionError(f"{most} answers have left this site, and no more may ({path.name})")
        write_atomically(path, json.dumps({"answers": number}))
    return number
