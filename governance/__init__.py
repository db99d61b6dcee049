"""Policies as data, and the functions that apply them."""
