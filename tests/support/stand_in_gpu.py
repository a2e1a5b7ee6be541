"""A GPU that is not there: tensors say that they are on it, and what would mix devices fails as it would there.

They lie in ordinary memory, so the numbers are those of a CPU. What the C++ parts of torch do is not looked at: neither
backward passes, nor kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")

_MOVES = {"to", "cuda", "cpu"}
_COPIES = {"copy_", "__getitem__", "__setitem__", "index_put_"}
"""What takes a tensor of another device: copies, and indices from the CPU."""
_MADE = {"tensor", "as_tensor", "zeros", "ones", "full", "empty", "arange", "rand", "randn", "randint", "randperm"}
"""What is on the CPU if it is not told otherwise."""
_READS = {"numpy", "__array__"}


class MixedDevices(RuntimeError):
    """Tensors of the CPU and of the GPU in one operation."""


def there(tensor: torch.Tensor) -> bool:
    """Whether it is on the GPU."""
    return getattr(tensor, "_on_stand_in", False)


def mark(tensor: torch.Tensor, on: bool = True) -> torch.Tensor:
    tensor._on_stand_in = on  # type: ignore[attr-defined]
    return tensor


def put(model: torch.nn.Module) -> None:
    """Parameters and buffers of ``model`` are on the GPU from now on."""
    for tensor in (*model.parameters(), *model.buffers()):
        mark(tensor)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class StandInGpu(TorchFunctionMode):
    """In the block the machine has one GPU, as far as forward passes go."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if name == "__get__" and args and isinstance(args[0], torch.Tensor):
            return self._attribute(func, args)
        if name in _READS and there(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if name in _MOVES and args and isinstance(args[0], torch.Tensor):
            return self._moved(name, args[0], args[1:], kwargs)
        on = any(map(there, _tensors([args, kwargs])))
        if "device" in kwargs and name != "autocast":
            given = kwargs.pop("device")
            on = on if given is None else _is_gpu(given)
        elif name in _MADE:
            on = False
        else:
            self._check(name, args, kwargs)
            on = there(args[0]) if name in _COPIES else on
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            mark(tensor, on)
        return result

    def _attribute(self, func: Any, args: tuple[Any, ...]) -> Any:
        tensor, which = args[0], getattr(func.__self__, "__name__", "")
        if which == "device":
            return GPU if there(tensor) else CPU
        if which in ("is_cuda", "is_cpu"):
            return there(tensor) is (which == "is_cuda")
        result = func(*args)
        if isinstance(result, torch.Tensor) and which != "grad":
            mark(result, there(tensor))
        return result

    def _moved(self, name: str, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        target: Any = {"cuda": GPU, "cpu": CPU}.get(name, kwargs.pop("device", None))
        rest = []
        for given in args:
            if isinstance(given, torch.Tensor):  # like another one
                target, given = (GPU if there(given) else CPU), given.dtype
            if isinstance(given, str | torch.device | int) and not isinstance(given, bool):
                target = given
            elif given is not None:
                rest.append(given)
        kwargs.pop("non_blocking", None)
        dtypes = [d for d in (*rest, *kwargs.values()) if isinstance(d, torch.dtype)]
        result = torch.Tensor.to(tensor, *dtypes[:1]) if dtypes else tensor
        on = there(tensor) if target is None else _is_gpu(target)
        if on != there(tensor) and result is tensor:
            result = tensor.view_as(tensor)  # the one that stays says where it is
        return mark(result, on) if result is not tensor else tensor

    def _check(self, name: str, args: Any, kwargs: Any) -> None:
        taking = [tensor for tensor in _tensors([args, kwargs]) if tensor.dim()]
        if name in _COPIES:
            # An index on the CPU is taken along, one on the GPU isn't brought back.
            if name != "copy_" and not there(args[0]) and any(map(there, taking[1:])):
                raise MixedDevices(f"{name}: a tensor on the CPU with indices on the GPU")
            return
        if len({there(tensor) for tensor in taking}) > 1:
            left = [tuple(tensor.shape) for tensor in taking if not there(tensor)]
            raise MixedDevices(f"{name}: on the CPU was left {left} of {[tuple(t.shape) for t in taking]}")
