"""HL7 v2: reading and writing messages, MLLP, and what is done with each kind of message.

``message`` reads, ``writing`` writes, ``charset`` knows the character sets, ``framing`` the frames of MLLP and batch files;
``errors`` and ``answers`` refuse and acknowledge.  ``kinds`` is the table of message types that are taken: a room that takes
another kind registers it there.  ``receiving`` is the way of a message from its bytes to the answer, ``server`` listens,
``outbound`` tells other systems.
"""
