"""What consumers look up, outside the lakehouse."""
