"""Janus-Pro: understanding and drawing in one model (Chen et al., 2025, https://arxiv.org/abs/2501.17811)."""

from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.registry import register_backend

register_backend("januspro", JanusProBackend())

__all__ = ["JanusProBackend"]
