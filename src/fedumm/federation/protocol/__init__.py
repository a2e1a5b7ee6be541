"""What server and clients say to each other, and what both ends compute alike. No network, no model."""
