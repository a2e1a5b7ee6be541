"""Shell scripts that run Python in the environment of a backend: ``launch_blip.sh``, ``launch_januspro.sh``."""
