"""The transformation, written once: pure functions over Arrow batches and Polars frames."""
