"""The signal store: what consumers look up before a bid, in microseconds."""
