"""BLIP for visual question answering (Li et al., 2022, https://arxiv.org/abs/2201.12086)."""

from fedumm.backends.blip_vqa.backend import BlipVqaBackend

BACKEND = BlipVqaBackend()

__all__ = ["BACKEND", "BlipVqaBackend"]
