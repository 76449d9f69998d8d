"""The broker's decisions."""
