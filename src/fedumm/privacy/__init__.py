"""Differential privacy of clients: what applies to a run, the noise, and its epsilon. Importing this loads no torch."""
