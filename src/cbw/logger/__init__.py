"""The central logger and its file."""
