"""Published: signals that consumers look up outside the lakehouse."""
