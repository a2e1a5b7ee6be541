"""A number for each client in one option: ``16,site-1=4``."""

from __future__ import annotations

from collections.abc import Iterator

from fedumm.errors import FedummError


class ByClient:
    """A positive number for each client: ``16``, ``site-1=4,site-2=16``, or ``16,site-1=4`` (16 for the others).

    Example:
        >>> ranks = ByClient("8,site-1=4,site-3=16")
        >>> [ranks[name] for name in ("site-1", "site-2", "site-3")], ranks.highest
        ([4, 8, 16], 16)

    Raises:
        FedummError: it is not of that form.
    """

    def __init__(self, value: int | str) -> None:
        self.default: int | None = None
        self.own: dict[str, int] = {}
        for name, number in self._entries(str(value)):
            if number < 1 or (name in self.own if name else self.default is not None):
                raise FedummError("must be a positive number, or one for each client such as 16,site-1=4,site-2=8")
            if name:
                self.own[name] = number
            else:
                self.default = number

    @staticmethod
    def _entries(text: str) -> Iterator[tuple[str, int]]:
        for entry in text.split(","):
            name, equals, number = entry.rpartition("=")
            good = number.strip().isdecimal() and len(number) < 9 and bool(name.strip()) == bool(equals)
            yield name.strip(), int(number) if good else 0

    def __getitem__(self, client: str) -> int:
        """That client's number.

        Raises:
            FedummError: none was given for it, and none for the others.
        """
        number = self.own.get(client, self.default)
        if number is None:
            raise FedummError(
                f"no number for {client}: name every client, or give one for the others, such as "
                f"16,{','.join(f'{name}={own}' for name, own in self.own.items())}"
            )
        return number

    @property
    def highest(self) -> int:
        """The largest of all."""
        return max([*self.own.values(), *([self.default] if self.default is not None else [])])

    @property
    def equal(self) -> bool:
        """One number for everybody."""
        return not self.own
