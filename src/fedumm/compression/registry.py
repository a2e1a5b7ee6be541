"""Codecs by name and by the number that stands for them on the wire. Imports no torch before one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedumm.errors import FedummError
from fedumm.registry import Registry

if TYPE_CHECKING:
    from fedumm.compression.codecs import Codec

WIRES = ("float32", "bfloat16", "float16", "int8", "nf4")
"""How the values of an adapter can travel by what is shipped."""

SHIPPED = dict.fromkeys(WIRES, "fedumm.compression.codecs")
_HINT = " One of your own is loaded with --plugin FILE."


def _of_module(module: Any, name: str) -> Any:
    return next(item for item in vars(module).values() if isinstance(item, type) and vars(item).get("name") == name)


def _checked(name: str, item: Any) -> Codec:
    """``item``, a codec, or one of the class ``item``, which takes no arguments."""
    from fedumm.compression import codecs

    codec = item() if isinstance(item, type) else item
    if not isinstance(codec, codecs.Codec):
        raise FedummError(f"Codec {name!r} is no subclass of fedumm.compression.codecs.Codec.")
    number = getattr(codec, "id", None)
    if type(number) is not int or not 0 <= number <= 255:
        raise FedummError(f"Codec {name!r} needs an id from 0 to 255, which stands for it on the wire.")
    if type(codec).__module__ != codecs.__name__:
        _check_unique(name, number)
    type(codec).name = name
    return codec


def _check_unique(name: str, number: int) -> None:
    for other in {*WIRES, *CODECS.own()} - {name}:
        if CODECS.get(other).id == number:
            raise FedummError(f"Codec {name!r} has the id {number}, which is that of {other!r}: choose another.")


CODECS: Registry[Codec] = Registry("codec", "fedumm.codecs", SHIPPED, _of_module, _checked)

register_codec = CODECS.register
"""``@register_codec(name)`` above a subclass of :class:`~fedumm.compression.codecs.Codec` without arguments."""


def check_codec_name(name: str) -> None:
    """Raise :class:`FedummError` for an unknown name, without importing torch."""
    CODECS.check(name, _HINT)


def codec_called(name: str) -> Codec:
    """The codec called ``name``.

    Raises:
        ValueError: there is none.
    """
    try:
        return CODECS.get(name)
    except FedummError as error:
        raise ValueError(str(error)) from error


def codec_numbered(number: int) -> Codec:
    """The codec whose ``id`` is ``number``.

    Raises:
        ValueError: there is none.
    """
    for name in dict.fromkeys((*CODECS.own(), *WIRES)):
        if CODECS.get(name).id == number:
            return CODECS.get(name)
    # Those of installed packages are imported only now.
    found = (codec_called(name) for name in CODECS.names())
    codec = next((codec for codec in found if codec.id == number), None)
    if codec is None:
        raise ValueError(f"no codec has the number {number}")
    return codec
