"""SQL over the lakehouse's tables as one role sees them: parsed first, then run in a process with limits."""
