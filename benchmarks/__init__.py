"""What costs how much; run one with ``python -m benchmarks.<name>``."""
