"""Model families: how each is loaded, adapted, fed, trained and evaluated."""

from fedumm.backends.registry import available_backends, get_backend, register_backend

__all__ = ["available_backends", "get_backend", "register_backend"]
