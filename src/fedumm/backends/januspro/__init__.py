"""Janus-Pro: understanding and drawing in one model (Chen et al., 2025, https://arxiv.org/abs/2501.17811)."""

from fedumm.backends.januspro.backend import JanusProBackend

BACKEND = JanusProBackend()

__all__ = ["BACKEND", "JanusProBackend"]
