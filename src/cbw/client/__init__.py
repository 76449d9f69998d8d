"""The client libraries: threads or an event loop around one conversation with a broker."""
