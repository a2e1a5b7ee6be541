"""BLIP for visual question answering (Li et al., 2022, https://arxiv.org/abs/2201.12086)."""

from fedumm.backends.blip_vqa.backend import BlipVqaBackend
from fedumm.backends.registry import register_backend

register_backend("blip_vqa", BlipVqaBackend())

__all__ = ["BlipVqaBackend"]
