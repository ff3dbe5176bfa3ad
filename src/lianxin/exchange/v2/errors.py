"""Why a message is not taken: the codes of HL7 table 0357, the place, and what the sender can do about it."""

from __future__ import annotations

from dataclasses import dataclass

from lianxin.exchange.feeds.errors import Refusal
from lianxin.standards.text import Text

SEQUENCE, REQUIRED, DATA_TYPE, TABLE_VALUE = "100", "101", "102", "103"
TYPE, EVENT, PROCESSING, VERSION, UNKNOWN_KEY, DUPLICATE_KEY, LOCKED, INTERNAL = (
    "200", "201", "202", "203", "204", "205", "206", "207",
)  # fmt: skip

NAMES = {
    "0": "Message accepted",
    SEQUENCE: "Segment sequence error",
    REQUIRED: "Required field missing",
    DATA_TYPE: "Data type error",
    TABLE_VALUE: "Table value not found",
    TYPE: "Unsupported message type",
    EVENT: "Unsupported event code",
    PROCESSING: "Unsupported processing id",
    VERSION: "Unsupported version id",
    UNKNOWN_KEY: "Unknown key identifier",
    DUPLICATE_KEY: "Duplicate key identifier",
    LOCKED: "Application record locked",
    INTERNAL: "Application internal error",
}
"""HL7 table 0357."""

REJECTED, FAILED = "AR", "AE"


@dataclass(frozen=True)
class Place:
    """Where in a message, counted as HL7 counts: from 1; 0 when it is not said."""

    segment: str = ""
    number: int = 1
    field: int = 0
    component: int = 0
    repetition: int = 1

    def __str__(self) -> str:
        tail = f"-{self.field}" if self.field else ""
        return f"{self.segment}{tail}{f'.{self.component}' if self.component else ''}"


class Refused(Refusal):
    """A message is not taken. ``answer``: AR (it cannot be handled at all) or AE (what it says cannot be taken)."""

    def __init__(self, code: str, text: Text, place: Place | None = None, answer: str = FAILED) -> None:
        super().__init__(code, text, str(place or ""), answer)
        self.code, self.text, self.place, self.answer = code, text, place or Place(), answer


class Malformed(Refused):
    """What came is no HL7 v2 message, or cannot be read as one: answered AR."""

    def __init__(self, code: str, text: Text, place: Place | None = None) -> None:
        super().__init__(code, text, place, REJECTED)
