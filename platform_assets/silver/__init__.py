"""Rows typed, cleaned and de-duplicated, and what the models say about them."""
