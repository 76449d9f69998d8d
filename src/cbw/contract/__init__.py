"""What both sides of a request know of it: services, the functions that serve them, and what these are told."""
