"""Tables about the platform itself."""
