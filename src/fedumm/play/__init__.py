"""A local page on which a model is asked and made to draw, before and after its training, side by side."""
