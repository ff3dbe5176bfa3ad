"""How a hospital's booking system is spoken to: one interface, a FHIR R4 adapter and an HL7 v2 adapter.

Every call carries the booking's key and ends within its time; what cannot be known (no answer, an answer that broke off, an error of
theirs) is ``Unclear``: the booking may or may not stand there, so it is asked about by its key before it is asked for again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lianxin.resident.scheduling.models import BookingSystem
from lianxin.standards.text import T, Text

KEYS = "http://lianxin.example/id/booking-key"
"""The system of the identifier by which a hospital knows our booking."""


class Unclear(Exception):
    """Nothing is known of what became of a call; ``sent``: the hospital may have acted on it."""

    def __init__(self, text: Text, *, sent: bool = True) -> None:
        super().__init__(text.en)
        self.text = text
        self.sent = sent


@dataclass(frozen=True)
class Visit:
    """What a hospital is told of a booking: the session by its own number, the number of it, and who comes."""

    key: str
    session: str
    department: str
    practitioner: str
    seat: int
    at: dt.datetime
    minutes: int
    number: str
    name: str
    sex: str
    birth: str
    phone: str = ""
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """``yes``: it stands there, as ``theirs``; no: ``why``."""

    yes: bool
    theirs: str = ""
    why: str = ""


@dataclass(frozen=True)
class Theirs:
    """A session as a hospital tells it. ``gone``: it says itself that the session is not held."""

    external_id: str
    department: str
    practitioner: str
    kind: str
    clinic_type: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    capacity: int
    gone: bool = False
    fee_fen: int = 0
    bad: Text | None = None


class Adapter(Protocol):
    """What every way of speaking to a hospital's system can do."""

    def ask(self, key: str) -> Answer | None:
        """Whether it knows the booking ``key`` (None: it never heard of it). Raises Unclear."""

    def book(self, visit: Visit) -> Answer:
        """Ask for it; the same key again is the same booking. Raises Unclear."""

    def cancel(self, visit: Visit, theirs: str) -> Answer:
        """Give it back; what is not there is given back. Raises Unclear."""

    def sessions(self, since: dt.datetime, until: dt.datetime, changed: str) -> Iterator[Theirs]:
        """Sessions in a window; with ``changed`` only what changed after that mark. Raises Unclear."""

    def mark(self) -> str:
        """Up to which change the last :meth:`sessions` read ("" when it does not say)."""


def of(system: BookingSystem) -> Adapter:
    """The adapter of a system."""
    from lianxin.resident.scheduling import adapter_fhir, adapter_v2

    return adapter_fhir.Fhir(system) if system.way == "fhir" else adapter_v2.V2(system)


def no_answer(seconds: float) -> Text:
    """Why a call that took too long is unclear."""
    return T("{s} 秒内没有应答", "No answer within {s} s").format(s=str(int(seconds)))
