"""The worker: its conversation with a broker, and the pools that run handlers."""
