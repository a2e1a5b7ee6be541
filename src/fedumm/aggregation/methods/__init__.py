"""One aggregator a file, found by the file's name: ``methods/NAME.py`` holds the class whose ``name`` is ``NAME``."""
