"""Forms of bodies other than JSON: one class a file, of one interface."""
