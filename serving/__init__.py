"""What people and programs use: the command line, the signal API, the stream worker."""
