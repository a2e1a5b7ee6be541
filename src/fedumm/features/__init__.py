"""The cache of what a model's frozen stage says about each image."""
