"""What comes in by any door, and what became of it.

``models``: an :class:`Arrival` is one piece as it came, a :class:`Finding` what was wrong with it.  ``inbox`` is the one way in:
known already? – understand – gate – store – keep, in one transaction.  ``quality`` is the gate.  A door (HL7 v2, documents,
tables, settlements) makes :class:`inbox.Piece` and gives the answer back.
"""
