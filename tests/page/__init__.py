"""The page of a broker, in a real Chromium."""
