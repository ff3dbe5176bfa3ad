"""The laboratory centre."""
