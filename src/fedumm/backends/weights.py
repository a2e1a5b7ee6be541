"""How the frozen weights of a model are loaded: in which type, in four bits, on one device or on several."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fedumm.config import RunConfig
from fedumm.errors import FedummError

if TYPE_CHECKING:
    import torch

    Model = TypeVar("Model", bound=torch.nn.Module)

AUTO = "auto"
LARGE = 1_000_000_000
"""Models of more parameters are bfloat16 on GPUs, if nothing else is asked for."""


@dataclass(frozen=True)
class WeightOptions:
    """What a run says of its frozen weights; LoRA's own are float32 whatever it says.

    Attributes:
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: float32 on a CPU and for models of up to
            :data:`LARGE` parameters, else bfloat16.
        load_in_4bit: linear layers in NF4 with double quantisation (Dettmers et al., 2023,
            https://arxiv.org/abs/2305.14314); ``dtype`` is then that of the other weights and of the products.
        device_map: ``auto`` spreads the layers over all GPUs; empty: one device holds them all.
        precision: of the arithmetic; ``float32`` asks for such weights, too.
    """

    dtype: str = AUTO
    load_in_4bit: bool = False
    device_map: str = ""
    precision: str = AUTO

    @classmethod
    def of(cls, config: RunConfig) -> WeightOptions:
        """Those of a run."""
        return cls(config.dtype, config.load_in_4bit, config.device_map, config.precision)

    def asked(self) -> list[str]:
        """The flags that a backend may not have; ``precision`` concerns any."""
        flags = [f"--dtype {self.dtype}"] if self.dtype != AUTO else []
        flags += ["--load_in_4bit"] if self.load_in_4bit else []
        return flags + ([f"--device_map {self.device_map}"] if self.device_map else [])


DEFAULT_WEIGHTS = WeightOptions()


def check_weights(options: WeightOptions, device: torch.device) -> None:
    """Raise :class:`FedummError` if this machine, or ``device``, can't do what ``options`` ask for.

    Nothing is loaded: to be called before data are read.
    """
    if options.precision == "float32" and options.dtype not in (AUTO, "float32"):
        raise FedummError(
            f"--precision float32 asks for float32 weights, and --dtype {options.dtype} for others: leave one out."
        )
    if options.load_in_4bit:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise FedummError("--load_in_4bit needs the package bitsandbytes: pip install 'fedumm[4bit]'")
        if device.type != "cuda":
            raise FedummError(f"--load_in_4bit needs a GPU with CUDA, and this run is on {device}: leave it out.")
    if options.device_map and device.type == "cpu":
        raise FedummError(f"--device_map {options.device_map} spreads a model over GPUs, and this run uses none.")


def weight_dtype(options: WeightOptions, device: torch.device, parameters: Callable[[], int]) -> torch.dtype:
    """Type of the frozen weights (of those that stay as they are, with ``load_in_4bit``).

    Args:
        parameters: how many the model has; only called where it matters.
    """
    import torch

    if options.dtype != AUTO:
        named: torch.dtype = getattr(torch, options.dtype)
        return named
    if options.precision == "float32" or device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if options.load_in_4bit or parameters() > LARGE else torch.float32


def loading_arguments(
    options: WeightOptions, device: torch.device, parameters: Callable[[], int], keep: Sequence[str] = ()
) -> dict[str, Any]:
    """``dtype``, and where they are needed ``quantization_config`` and ``device_map``, for ``from_pretrained``.

    Args:
        parameters: see :func:`weight_dtype`.
        keep: full names of modules that are not brought to four bits, such as a vision tower and the head.

    Raises:
        FedummError: see :func:`check_weights`.
    """
    check_weights(options, device)
    dtype = weight_dtype(options, device, parameters)
    arguments: dict[str, Any] = {"dtype": dtype}
    if options.load_in_4bit:
        from transformers import BitsAndBytesConfig

        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=list(keep),  # of four bits, too, in spite of its name
        )
    if options.device_map or options.load_in_4bit:
        # Four bits are made on the GPU, so weights are loaded to it and not moved there.
        arguments["device_map"] = options.device_map or {"": device}
    return arguments


def placed(model: Model, device: torch.device, options: WeightOptions) -> Model:
    """``model`` on ``device``, unless :func:`loading_arguments` had it loaded to where it belongs."""
    return model if options.device_map or options.load_in_4bit else model.to(device)


def parameter_count(weight: torch.Tensor) -> int:
    """How many numbers ``weight`` stands for: in four bits two lie in one byte."""
    quantised = getattr(weight, "quant_state", None)
    return weight.numel() if quantised is None else math.prod(quantised.shape)


def count_parameters(build: Callable[[], torch.nn.Module]) -> int:
    """How many parameters the model has that ``build`` makes; tied ones count once. It gets no memory.

    Example:
        >>> import torch
        >>> count_parameters(lambda: torch.nn.Linear(100_000, 100_000, bias=False))
        10000000000
    """
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())
