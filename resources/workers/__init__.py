"""Processes that read what strangers send, each document within a budget of memory and processor time."""
