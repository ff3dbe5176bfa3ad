"""Operations of the record itself, offered at the door."""

from lianxin.exchange.fhir.operations import everything


def register() -> None:
    """Offer them (called once, when the exchange starts)."""
    everything.register()
