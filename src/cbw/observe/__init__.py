"""What a role tells of itself: trace, log records, status pages, metrics."""
