"""Rounds: the server, the hosts, and the two runners that carry messages between them.

Only ``fedumm.federation.runners.flare`` imports NVIDIA FLARE.
"""
