"""Codes given from hand to hand: eight digits, one use, kept as a keyed digest.

``bind``: a desk that has seen the document gives it to the person, a day; ``delegate``: the person (or the desk for them) gives it to
who shall act for them, half an hour.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets

from django.db import IntegrityError, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.resident.card.models import HandedCode
from lianxin.standards import clock

LIFE = {"bind": dt.timedelta(days=1), "delegate": dt.timedelta(minutes=30)}


def _digest(kind: str, code: str) -> bytes:
    return seal.blind(f"{kind}:{code}", "handed-code")


def plain(text: str) -> str:
    """The eight digits of what was typed, or ""."""
    digits = re.sub(r"[\s\-]", "", text[:20])
    return digits if re.fullmatch(r"[0-9]{8}", digits) else ""


def give(scope: Scope, kind: str, person_id: int, evidence: str = "") -> str:
    """A new code for ``person_id``; earlier ones of its kind are void. The caller has checked who may; somebody has to answer for it."""
    if scope.account_id is None:
        raise ValueError("a code is given by somebody who has signed in")
    now = clock.now()
    for _ in range(5):
        code = f"{secrets.randbelow(100_000_000):08d}"
        try:
            with transaction.atomic():
                HandedCode.objects.filter(
                    kind=kind, person_id=person_id, used_at__isnull=True, expires_at__gt=now
                ).update(expires_at=now)
                HandedCode.objects.create(
                    kind=kind,
                    person_id=person_id,
                    digest=_digest(kind, code),
                    made_by_id=scope.account_id,
                    institution_id=scope.institution_id,
                    evidence=evidence.strip()[:200],
                    created_at=now,
                    expires_at=now + LIFE[kind],
                )
                audit.write(scope, "create", person_id=person_id, what=f"{kind} code")
        except IntegrityError:  # the same eight digits were given before: draw again
            continue
        return code
    raise RuntimeError("no free code was drawn in five tries")


def peek(kind: str, code: str) -> int | None:
    """The person a code is good for now, or None; not used up by this."""
    digits = plain(code)
    return (
        HandedCode.objects.filter(
            digest=_digest(kind, digits), used_at__isnull=True, expires_at__gt=clock.now()
        )
        .values_list("person_id", flat=True)
        .first()
        if digits
        else None
    )


def use(kind: str, code: str) -> HandedCode | None:
    """Use a code up; None when it is not good (any more). Two at once: one gets it."""
    now = clock.now()
    rows = HandedCode.objects.filter(
        digest=_digest(kind, plain(code) or "-"), used_at__isnull=True, expires_at__gt=now
    )
    row = rows.first()
    return row if row is not None and rows.update(used_at=now) else None
