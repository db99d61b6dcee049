"""Encoders, the heads on their vectors, and how both are trained and measured."""
