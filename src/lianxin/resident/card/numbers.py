"""The e-health card number of a person: the index gives it at registration and it never changes."""

from __future__ import annotations

from lianxin.index import numbers as index_numbers
from lianxin.index import registry
from lianxin.index.models import Person


def of(person: Person) -> str:
    """The card number (16 digits)."""
    return str(person.card_number)


def person_of(number: str) -> Person | None:
    """Who has a card number now, after merges; None for what is no card number of this index."""
    own = index_numbers.number_of_card(number)
    try:
        found = registry.get(own, follow=False) if own else None
    except registry.UnknownPerson:
        return None
    if found is None or found.card_number != number:
        return None
    return registry.get(own)
