"""The stream worker."""
