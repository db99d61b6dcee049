"""The signal API: what ad decisioning and applications call."""
