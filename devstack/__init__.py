"""The local servers that development and tests use."""
