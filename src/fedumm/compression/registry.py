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

_CALLED: dict[str, None] = {}
"""Codecs of installed packages that this process was asked for by name: others are not imported for a number."""

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
        codec = CODECS.get(name)
    except FedummError as error:
        raise ValueError(str(error)) from error
    if name not in WIRES and name not in CODECS.own():
        _CALLED[name] = None
    return codec


def load_codecs(*names: str) -> None:
    """Import those of a run, before a message can hold their numbers.

    Raises:
        ValueError: there is no such codec.
    """
    for name in names:
        codec_called(name)


def codec_numbered(number: int) -> Codec:
    """The codec whose ``id`` is ``number``: one that is shipped, registered here, or was called by name.

    The number comes from somebody else, who must not choose what is imported.

    Raises:
        ValueError: there is none.
    """
    for name in dict.fromkeys((*CODECS.own(), *WIRES, *_CALLED)):
        if CODECS.get(name).id == number:
            return CODECS.get(name)
    raise ValueError(f"no codec has the number {number}")
