"""Rows as received, and where they came from."""
