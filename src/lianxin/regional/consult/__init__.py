"""Teleconsultation, outreach and teaching."""
