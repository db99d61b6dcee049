"""The signal API over HTTP."""
