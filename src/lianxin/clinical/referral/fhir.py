"""Referrals over FHIR: the operations a hospital's own system drives the same machine with."""

from __future__ import annotations


def register() -> None:
    """Hand the operations to the door."""
