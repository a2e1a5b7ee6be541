"""Drawing sets of captions, and judging what was drawn."""

from fedumm.generation.judging import score_images

__all__ = ["score_images"]
