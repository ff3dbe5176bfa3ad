"""What an HL7 v2 message says, as FHIR resources: mappings are data, one for each message type, laid over per sender.

``data/mappings/*.yaml`` are built in; what an institution edits in the pages (:mod:`.models`) is laid over them, first for everybody,
then for one sender.  A sheet is compiled once (:mod:`.compiler`) and run for every message (:mod:`.mapping`).

    mapping = find(message, peer_id)
    made = mapping.resources(message, "Patient/…", context_of(institution_id))
"""

from lianxin.exchange.v2.mapping.made import (
    MERGE,
    ONCE,
    REPLACE,
    Context,
    Manner,
    Mapped,
    context_of,
    merge,
)
from lianxin.exchange.v2.mapping.mapping import Mapping, PatientSettings
from lianxin.exchange.v2.mapping.shelf import find, kinds

__all__ = [
    "MERGE",
    "ONCE",
    "REPLACE",
    "Context",
    "Manner",
    "Mapped",
    "Mapping",
    "PatientSettings",
    "context_of",
    "find",
    "kinds",
    "merge",
]
