"""Sterile supply."""
