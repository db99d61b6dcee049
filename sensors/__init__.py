"""What starts work by itself: each file a pure ``decide(state, now)`` and a thin wrapper around it."""
