"""Reading the log that the logger writes: searching it, following it, the story of a request, figures of a period."""
