"""The worker's decisions: pure, so that tests can replay any order of events."""
