"""Who carries messages to phones. An adapter takes one message and says what became of it; the chore decides what to do then."""

from __future__ import annotations

from typing import Protocol

from lianxin.access import seal
from lianxin.resident.sms import signed
from lianxin.resident.sms.models import Gateway

SECONDS = 8.0


class Temporary(Exception):
    """Not now: try again later. Whether the message went out nevertheless may be unknown."""


class Refused(Exception):
    """Never: this number or this text will not be taken."""


class Carrier(Protocol):
    """An adapter."""

    keeps: bool
    """Whether the text stays readable here because nobody else shows it."""

    def carry(self, reference: str, phone: str, text: str) -> str:
        """Hand one message over; returns the gateway's receipt. Raises :class:`Temporary` or :class:`Refused`.

        ``reference`` is the same in every attempt: a gateway that has had it answers with its first receipt and sends nothing.
        """
        ...


class Kept:
    """Sends nothing: messages stay readable for the system administrator. For demonstrations only."""

    keeps = True

    def carry(self, reference: str, phone: str, text: str) -> str:
        """Nothing to do."""
        return "kept"


class Http:
    """A gateway with a JSON door: ``{reference, phone, text}`` signed (see :mod:`signed`), answered by ``{code, id}``.

    ``code`` "0" or "duplicate" (it has had this reference): taken; "number", "text", "blocked": never; anything else: later.
    """

    keeps = False
    TAKEN = ("0", "duplicate")
    NEVER = ("number", "text", "blocked")

    def __init__(self, url: str, app_id: str, secret: str) -> None:
        self.url, self.app_id, self.secret = url, app_id, secret

    def carry(self, reference: str, phone: str, text: str) -> str:
        """One signed POST."""
        try:
            answer = signed.post(
                self.url,
                self.app_id,
                self.secret,
                {"reference": reference, "phone": phone, "text": text},
                SECONDS,
            )
        except signed.NoAnswer as why:
            raise Temporary(str(why)) from None
        code = str(answer.body.get("code", ""))[:40]
        if answer.status == 200 and code in self.TAKEN:
            return str(answer.body.get("id", ""))[:80]
        if code in self.NEVER:
            raise Refused(f"the gateway refuses the {code}")
        raise Temporary(f"HTTP {answer.status}, code {code or 'none'}")


def current() -> Carrier | None:
    """The adapter that is set, or None: then messages wait until one is."""
    row = Gateway.objects.first()
    if row is None:
        return None
    return Kept() if row.kind == "kept" else Http(row.url, row.app_id, seal.unseal(row.secret_sealed))
