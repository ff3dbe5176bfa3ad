"""Operations of the record itself, offered at the door."""

from lianxin.exchange.fhir.operations import (
    document,
    everything,
    lastn,
    matching,
    meta,
    summary,
    validating,
    versions,
)


def register() -> None:
    """Offer them (called once, when the exchange starts)."""
    for one in (document, everything, lastn, matching, meta, summary, validating, versions):
        one.register()
