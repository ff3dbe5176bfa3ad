"""Ordering examinations and tests, and what came back."""
