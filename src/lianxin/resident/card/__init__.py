"""The e-health card, and the residents' own accounts: sign in by phone, bind an identity, act for family.

``numbers.of(person)``, ``qr.text(person_id, at)``, ``qr.read(text)``; ``accounts``, ``binding``, ``family``; see docs/how-to/health-card.md.
"""
