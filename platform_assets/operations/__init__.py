"""Tables about the platform itself: models, drift, latency, files."""
