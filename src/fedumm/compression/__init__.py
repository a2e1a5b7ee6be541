"""How tensors become bytes: rounding to fewer bits, packing, and error feedback for what rounding loses."""
