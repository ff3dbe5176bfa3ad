"""The national or provincial e-health card service: what it has to be told, kept until it has taken it.

Off unless a :class:`~lianxin.resident.card.models.Service` row is active. Our own card never waits for it: acts are noted in the
same transaction as the act and a chore hands them over, with growing pauses while the service is slow or down, in order for each
person. Requests are signed (app id, timestamp, nonce, HMAC-SM3; :mod:`lianxin.resident.sms.signed`); answers carry a code.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import connection, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.index.models import Person
from lianxin.resident.card.models import Service, ServiceCall, ServiceCard
from lianxin.resident.sms import signed
from lianxin.standards import clock

log = logging.getLogger(__name__)

SECONDS = 8.0
BATCH = 50
LEASE = dt.timedelta(minutes=5)
FIRST_WAIT, LONGEST_WAIT = dt.timedelta(seconds=15), dt.timedelta(hours=1)


class Unreachable(Exception):
    """The service is down, slow or busy: ask again later."""


class Refused(Exception):
    """The service will not do this, whenever it is asked (code and its words)."""


@dataclass(frozen=True)
class Checked:
    """What the service says of a code of its own: whether it holds, and whose card it is."""

    ok: bool
    number: str = ""
    why: str = ""


class CardService(Protocol):
    """What every such service offers, whatever its protocol."""

    def apply(self, person: Mapping[str, str], reference: str) -> str:
        """Register a person (name, sex, birth date, document, phone); returns the service's card number."""
        ...

    def status(self, number: str) -> str:
        """active, lost, closed or unknown."""
        ...

    def check(self, code: str) -> Checked:
        """Read a code of the service's own."""
        ...

    def report(self, number: str, act: str, reference: str) -> None:
        """Report a card lost or closed."""
        ...


class HttpCardService:
    """The service over signed JSON: POST ``{url}/card/apply|status|check|lose|close``, answered by ``{code, message, data}``.

    Codes: 0 done; 1002 known already (its number comes along); 4xxx the request itself is wrong (never tried again: 4001
    particulars that do not fit, 4004 no such card, 4010 signature, 4011 clock); 5xxx and everything else: later.
    """

    TAKEN = (0, 1002)
    OURS_TO_MEND = (4010, 4011)
    """Our settings or our clock, not the person's particulars: kept and tried again, once somebody has mended it."""

    def __init__(self, url: str, app_id: str, secret: str, seconds: float = SECONDS) -> None:
        self.url, self.app_id, self.secret, self.seconds = url.rstrip("/"), app_id, secret, seconds

    def _ask(self, act: str, content: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = signed.post(f"{self.url}/card/{act}", self.app_id, self.secret, content, self.seconds)
        except signed.NoAnswer as why:
            raise Unreachable(str(why)) from None
        code, data = answer.body.get("code"), answer.body.get("data")
        if code in self.TAKEN and answer.status == 200:
            return data if isinstance(data, dict) else {}
        if isinstance(code, int) and 4000 <= code < 5000 and code not in self.OURS_TO_MEND:
            raise Refused(f"code {code}")
        raise Unreachable(f"HTTP {answer.status}, code {code if isinstance(code, int) else 'none'}")

    def apply(self, person: Mapping[str, str], reference: str) -> str:
        """Register a person; being known already is as good."""
        number = str(self._ask("apply", {"reference": reference, "person": dict(person)}).get("number", ""))
        if not number or len(number) > 80:
            raise Unreachable("an answer without a card number")
        return number

    def status(self, number: str) -> str:
        """State of a card."""
        try:
            return str(self._ask("status", {"number": number}).get("state", "unknown"))
        except Refused:
            return "unknown"

    def check(self, code: str) -> Checked:
        """Read a code of the service's own."""
        try:
            data = self._ask("check", {"code": code})
        except Refused as why:
            return Checked(False, why=str(why))
        return Checked(True, str(data.get("number", "")))

    def report(self, number: str, act: str, reference: str) -> None:
        """Report a card lost or closed."""
        self._ask(act, {"reference": reference, "number": number})


def current() -> CardService | None:
    """The service that is set and active, or None."""
    row = Service.objects.filter(active=True).first()
    return HttpCardService(row.url, row.app_id, seal.unseal(row.secret_sealed)) if row else None


def note(act: str, person_id: int, key: str) -> None:
    """Keep in mind that the service has to be told, in the caller's transaction; nothing while there is no service."""
    if Service.objects.filter(active=True).exists():
        now = clock.now()
        ServiceCall.objects.get_or_create(
            key=key, defaults={"act": act, "person_id": person_id, "created_at": now, "next_at": now}
        )


_CLAIM = """
UPDATE card_servicecall c SET next_at = %(lease)s, tries = c.tries + 1
 WHERE c.id IN (
   SELECT id FROM card_servicecall w WHERE state = 'waiting' AND next_at <= %(now)s AND NOT EXISTS (
          SELECT 1 FROM card_servicecall e WHERE e.person_id = w.person_id AND e.state = 'waiting' AND e.id < w.id)
    ORDER BY next_at, id LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING c.id"""


def catch_up() -> int:
    """Hand over what waits (the chore); returns how many calls the service took. One that is down is asked once a round."""
    service = current()
    done = 0
    while service is not None:
        now = clock.now()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_CLAIM, {"lease": now + LEASE, "now": now, "batch": BATCH})
            ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            break
        calls = list(ServiceCall.objects.filter(pk__in=ids).order_by("pk"))
        for at, call in enumerate(calls):
            try:
                answer = _hand_over(service, call)
            except Refused as why:
                _finish(call, "refused", str(why))
            except Unreachable as why:
                _wait(calls[at:], str(why))
                return done
            except Exception as broken:  # one call's fault must not hold up the others; it shows in its row
                log.exception("card service call %s", call.pk)
                _wait([call], type(broken).__name__)
            else:
                _finish(call, "done", answer)
                done += 1
    return done


def _hand_over(service: CardService, call: ServiceCall) -> str:
    known = ServiceCard.objects.filter(person_id=call.person_id).values_list("number", flat=True).first()
    if call.act == "apply":
        number = service.apply(_particulars(call.person_id), call.key)
        ServiceCard.objects.update_or_create(person_id=call.person_id, defaults={"number": number})
        return "registered"
    if known is None:
        return "not registered there"
    service.report(known, call.act, call.key)
    return "reported"


def _particulars(person_id: int) -> dict[str, str]:
    person = Person.objects.unscoped("particulars for the card service").get(pk=person_id)
    return {
        "name": person.name,
        "sex": person.sex,
        "birth_date": person.birth_date.isoformat() if person.birth_date else "",
        "id_type": person.id_type,
        "id_no": seal.unseal(person.id_sealed),
        "phone": seal.unseal(person.phone_sealed),
    }


def _finish(call: ServiceCall, state: str, answer: str) -> None:
    with transaction.atomic():
        ServiceCall.objects.filter(pk=call.pk, state="waiting").update(state=state, answer=answer[:200])
        audit.write(
            Scope.system("card service"),
            "export",
            person_id=call.person_id,
            what=f"card service {call.act}",
            detail={"answer": answer[:80]},
            outcome="ok" if state == "done" else "refused",
        )


def _wait(calls: list[ServiceCall], why: str) -> None:
    now = clock.now()
    for call in calls:
        pause = min(FIRST_WAIT * 2 ** min(call.tries - 1, 12), LONGEST_WAIT)
        ServiceCall.objects.filter(pk=call.pk, state="waiting").update(next_at=now + pause, answer=why[:200])
