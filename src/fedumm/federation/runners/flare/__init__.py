"""The runner on NVIDIA FLARE: a recipe, a controller and an executor that only carry messages."""
