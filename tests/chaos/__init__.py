"""Real processes, killed, frozen and cut off at random, and an account kept by both ends of what became of each request."""
