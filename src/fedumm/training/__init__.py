"""Local training and evaluation of one client on a backbone."""
