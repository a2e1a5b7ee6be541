"""The command line. Only argument parsing is imported before a command is known to be valid."""
