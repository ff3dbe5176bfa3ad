"""Mutual recognition of results."""
