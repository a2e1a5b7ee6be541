"""The backend ``hf_vlm``: any image-text model of ``transformers`` that writes on after its prompt."""

from __future__ import annotations

from fedumm.backends.hf_vlm.backend import HfVlmBackend

BACKEND = HfVlmBackend()
