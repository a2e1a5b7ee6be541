"""The client side: a host serves clients on one backbone, and decides what it accepts and what leaves it."""
