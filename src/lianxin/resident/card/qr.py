"""The code of a card: made for a phone (good for 90 seconds) or for print, read on-line, and the list of void cards.

Reading on-line knows more than a verifier alone (:mod:`verify`): whether the card is still good, and whether this very code was
read at another institution before.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass

import orjson
from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.resident.card import cards, keys, numbers, verify
from lianxin.resident.card.models import Card, Seen
from lianxin.standards import clock
from lianxin.standards.text import T, Text

SECONDS = 90
KEEP_SEEN = dt.timedelta(days=2)
WHY = {
    "form": T("这不是电子健康卡的二维码。", "This is no e-health card code."),
    "key": T("二维码不是本平台签发的。", "This code was not made by this platform."),
    "signature": T("二维码被改动过，不能使用。", "This code was altered; it is not valid."),
    "early": T("二维码的时间不对，请检查手机或本机时钟。", "This code is from the future; check the clocks."),
    "expired": T("二维码已过期，请在手机上刷新后再扫。", "This code has expired; refresh it on the phone and scan again."),
    "revoked": T("该卡已挂失、补发或注销，请核对身份证件。", "This card was lost, replaced or closed; check the identity document."),
    "unknown": T("没有这张健康卡，请核对身份证件。", "There is no such card; check the identity document."),
    "copied": T(
        "该二维码刚在另一家机构使用过，可能是截图，请对方刷新并核对身份证件。",
        "This code was just used at another institution and may be a copy; have it refreshed and check the identity document.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Read:
    """What reading a code gave: whose it is when ``ok``, else ``why`` not (a key of :data:`WHY`)."""

    person_id: int | None
    number: str
    ok: bool
    why: str = ""
    again: bool = False

    @property
    def words(self) -> Text:
        """The refusal in words a desk can act on."""
        return WHY[self.why]


def text(person_id: int, at: dt.datetime | None = None, *, by: Scope | None = None) -> str:
    """A code for a phone's screen, good for :data:`SECONDS` from ``at`` (default now). Raises Invalid when there is no good card.

    ``by``: on whose behalf (the caller has checked that the person is theirs); a first card is issued in their name.
    """
    scope = by or Scope.system("card code")
    card = cards.ensure(scope, person_id)
    return _made(card, verify.SHOWN, at or clock.now(), SECONDS)


@transaction.atomic
def printed(scope: Scope, person_id: int) -> str:
    """A code for print, good for two years or until the card is replaced (permission ``manage_cards``; audited)."""
    scope.demand("manage_cards")
    card = cards.ensure(scope, person_id)
    card.printed_at = clock.now()
    card.save(update_fields=["printed_at"])
    audit.write(scope, "print", person_id=card.person_id, what=f"card {card.pk}")
    return _made(card, verify.PRINTED, card.printed_at, int(keys.PRINTED_FOR.total_seconds()) - 86400)


def _made(card: Card, kind: int, at: dt.datetime, seconds: int) -> str:
    key = keys.live()
    number = numbers.of(cards.person(card.person_id))
    signed = verify.body(
        kind,
        bytes.fromhex(key.kid),
        number,
        bytes(card.serial),
        int(at.timestamp()),
        seconds,
        secrets.token_bytes(8),
    )
    return verify.text(signed, keys.sign(key, signed))


def read(code: str, *, by: Scope | None = None) -> Read:
    """Whose code this is. With ``by`` (a desk) it is noted: the same code at another institution is refused as copied.

    Refused codes are audited with their reason, never with their text.
    """
    claim = verify.read(code, keys.public(), clock.now().timestamp())
    found = _judged(claim, by)
    if by is not None and not found.ok:
        audit.write(
            by,
            "deny",
            person_id=found.person_id,
            what="card code",
            detail={"why": found.why},
            outcome="refused",
        )
    return found


def _judged(claim: verify.Claim, by: Scope | None) -> Read:
    if not claim.ok:
        return Read(None, "", False, claim.why)
    card = Card.objects.filter(serial=claim.serial).first()
    person = numbers.person_of(claim.number)
    if card is None or person is None:
        return Read(None, "", False, "unknown")
    if card.state != "active":
        return Read(person.pk, claim.number, False, "revoked")
    again = False
    if by is not None and by.institution_id is not None and claim.kind == verify.SHOWN:
        seen, first = Seen.objects.get_or_create(
            nonce=claim.nonce,
            defaults={
                "person_id": person.pk,
                "institution_id": by.institution_id,
                "account_id": by.account_id,
                "at": clock.now(),
            },
        )
        again = not first
        if seen.institution_id != by.institution_id:
            return Read(person.pk, claim.number, False, "copied")
    return Read(person.pk, claim.number, True, again=again)


def revoked() -> str:
    """The signed list of void cards for verifiers without a connection: ``{"body": …, "kid": …, "signature": …}``.

    ``body`` is the exact JSON text that was signed: when it was made, until when it may be used (a day), and the serials in hex.
    Only printed cards are on it: a code on a phone is gone before any list could reach anybody.
    """
    now = clock.now()
    rows = Card.objects.exclude(state="active").filter(printed_at__gt=now - keys.PRINTED_FOR)
    body = orjson.dumps(
        {
            "made": int(now.timestamp()),
            "until": int((now + dt.timedelta(days=1)).timestamp()),
            "revoked": sorted(bytes(serial).hex() for serial in rows.values_list("serial", flat=True)),
        }
    )
    key = keys.live()
    return orjson.dumps(
        {"body": body.decode(), "kid": key.kid, "signature": keys.sign(key, body).hex()}
    ).decode()
