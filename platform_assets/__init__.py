"""The lineage graph: one file per table, and ``definitions.py``, the one entry point."""
