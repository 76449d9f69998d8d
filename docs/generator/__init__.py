"""Makes the reference documentation from the code: a module for each page."""
