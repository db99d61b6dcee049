"""Word lists and descriptions that the transformation uses, as data."""
