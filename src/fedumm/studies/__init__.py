"""Studies: a grid of runs beside its baselines, carried out in one process, and the tables and figures of it."""
