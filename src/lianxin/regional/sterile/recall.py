"""Recalls: of a load, a set, or a steriliser's loads of a period. One statement finds every set and every patient; then each holder owes the
quarantine of what it has (``sterile_recall``), and the doctor of each patient owes a contact (``sterile_contact``)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.regional.sterile import scan
from lianxin.regional.sterile.models import Duty, Load, Recall, Set, Steriliser
from lianxin.standards import clock
from lianxin.standards.text import T

RECALLABLE = ("sterilised", "released", "sent", "stored")
MOST_DAYS = 400

_HIT = """
SELECT s.id, s.code, s.type_id, s.state, s.turn = t.turn AND s.load_id = t.load_id AS present, s.holder_id, t.turn, l.id, l.number,
       o.person_id, o.institution_id, o.at, o.procedure
  FROM sterile_turn t
  JOIN sterile_load l ON l.id = t.load_id
  JOIN sterile_set s ON s.id = t.set_id
  LEFT JOIN sterile_opened o ON o.set_id = t.set_id AND o.turn = t.turn AND o.load_id = t.load_id
 WHERE {where} ORDER BY s.code, t.turn"""
_WHERE = {
    "load": "t.load_id = %(load)s",
    "set": "t.set_id = %(set)s AND t.at >= %(since)s",
    "period": "l.steriliser_id = %(steriliser)s AND l.started_at >= %(since)s AND l.started_at < %(until)s",
}


@dataclass(frozen=True)
class Hit:
    """A set of a recall in one of its turns, and on whom it was opened then (None: on nobody). ``present``: it is still in that turn."""

    set_id: int
    code: str
    type_id: int
    state: str
    present: bool
    holder_id: int
    turn: int
    load_id: int
    load: str
    person_id: int | None
    opened_at_institution: int | None
    opened_at: dt.datetime | None
    procedure: str | None


def hits(kind: str, **asked: Any) -> list[Hit]:
    """Every set and every patient of a recall, in one statement. ``kind`` "load" (load=), "set" (set=, since=), "period" (steriliser=, since=, until=)."""
    with connection.cursor() as cursor:
        cursor.execute(_HIT.format(where=_WHERE[kind]), asked)
        return [Hit(*row) for row in cursor.fetchall()]


def asked_of(row: Recall) -> dict[str, Any]:
    """The question of a recall as :func:`hits` takes it."""
    return {
        "load": row.load_id,
        "set": row.set_id,
        "steriliser": row.steriliser_id,
        "since": row.since or dt.datetime(2000, 1, 1, tzinfo=clock.ZONE),
        "until": row.until,
    }


def open_recall(
    by: Scope,
    kind: str,
    reason: str,
    key: str,
    *,
    load: Load | None = None,
    set_: Set | None = None,
    steriliser: Steriliser | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
) -> Recall:
    """Open a recall: what can still be stopped is recalled at once, and every holder and every patient's doctor owes something.

    Raises NotAllowed for another centre's loads or sets, Refused for a reason or period that is missing. The same ``key`` is the same recall.
    """
    by.demand("run_sterile")
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    _check(by, kind, reason, load, set_, steriliser, since, until)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 17))", [f"sterile:{key}"])
        standing = Recall.objects.filter(key=key[:120]).first()
        if standing is not None:
            return standing
        row = Recall.objects.create(
            kind=kind, load=load, set=set_, steriliser=steriliser, since=since, until=until, reason=reason.strip()[:300],
            institution_id=by.institution_id, by=by.name[:80], at=clock.now(), key=key[:120],
        )  # fmt: skip
        found = hits(kind, **asked_of(row))
        codes = sorted({h.code for h in found if h.present and h.state in RECALLABLE})
        moved = scan.change(by, "recall", codes, f"recall:{row.pk}", note=row.reason[:200])
        people = {(h.person_id, h.opened_at_institution) for h in found if h.person_id is not None}
        row.sets, row.patients = len({h.set_id for h in found}), len({p for p, _ in people})
        row.save(update_fields=["sets", "patients"])
        _duties(row, found, moved)
        audit.write(
            by, "create", what=f"sterile recall {row.pk}", detail={"sets": row.sets, "patients": row.patients}
        )
    return row


def _check(
    by: Scope, kind: str, reason: str, load: Load | None, set_: Set | None, steriliser: Steriliser | None,
    since: dt.datetime | None, until: dt.datetime | None,
) -> None:  # fmt: skip
    if not reason.strip():
        raise Refused({"reason": T("请填写召回原因。", "Write why it is recalled.")})
    mine = by.institution_ids
    theirs = [
        i for i in (load and load.institution_id, set_ and set_.centre_id, steriliser and steriliser.institution_id) if i
    ]  # fmt: skip
    if not theirs or not set(theirs) <= mine:
        raise NotAllowed(
            T("召回由负责该批次的消毒供应中心发起。", "The centre that sterilised it recalls it.")
        )
    if kind == "period":
        if since is None or until is None or since >= until:
            raise Refused({"since": T("请填写起止时间。", "Give from when and until when.")})
        if until - since > dt.timedelta(days=MOST_DAYS):
            raise Refused(
                {
                    "since": T("时段不能超过 {n} 天。", "The period may not exceed {n} days.").format(
                        n=str(MOST_DAYS)
                    )
                }
            )


def _duties(row: Recall, found: Sequence[Hit], moved: set[int]) -> None:
    from lianxin.regional.sterile import recall_moves as m

    system = Scope.system("sterile recall")
    held: dict[int, list[str]] = {}
    for h in found:
        if h.set_id in moved:
            held.setdefault(h.holder_id, []).append(h.code)
    for holder, codes in sorted(held.items()):
        kernel.open_case(
            m.RECALL_KIND, None, system, {}, f"recall:{row.pk}:holder:{holder}", parties={"holder": holder, "centre": row.institution_id},
            priority="urgent", extra={"recall": row, "codes": sorted(set(codes)), "person": None},
        )  # fmt: skip
    used: dict[tuple[int, int], list[str]] = {}
    for h in found:
        if h.person_id is not None and h.opened_at_institution is not None:
            used.setdefault((h.person_id, h.opened_at_institution), []).append(h.code)
    for (person, where), codes in sorted(used.items()):
        kernel.open_case(
            m.CONTACT_KIND, person, system, {}, f"recall:{row.pk}:person:{person}:{where}", parties={"doctor": where, "centre": row.institution_id},
            priority="urgent", extra={"recall": row, "codes": sorted(set(codes)), "person": person},
        )  # fmt: skip


def duties_of(row: Recall) -> list[Duty]:
    """The cases of a recall, open ones first. The caller has checked that the reader's centre runs the recall."""
    rows = Duty.objects.unscoped("the recall's own centre follows its duties").filter(recall=row)
    return list(rows.select_related("case", "institution", "person").order_by("-live", "person_id", "pk"))
