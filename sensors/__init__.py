"""Sensors: each file has a pure ``decide(state, now)`` and a thin wrapper around it."""
