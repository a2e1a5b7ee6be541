"""Janus-Pro (Chen et al., 2025, https://arxiv.org/abs/2501.17811): understanding and image generation in one model."""
