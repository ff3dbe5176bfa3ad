"""The pathology centre."""
