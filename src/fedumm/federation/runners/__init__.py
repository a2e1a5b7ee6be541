"""What carries messages between server and hosts: one process, or NVIDIA FLARE."""
