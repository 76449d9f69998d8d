"""What the benchmarks count, and that they still run."""
