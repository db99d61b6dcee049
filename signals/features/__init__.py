"""What is counted in a text without a model."""
