"""What centres, pages and doors call. Every change of a case goes through ``duty.kernel``; nothing here moves a case itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.network.models import Institution
from lianxin.regional.critical import effects, limits, moves, policy
from lianxin.regional.critical.effects import Found, WrongReadBack
from lianxin.regional.critical.limits import Hit
from lianxin.regional.critical.models import SOURCES, Critical, Note
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MOST_VALUE = 60


def report(
    by: Scope,
    *,
    person_id: int,
    source: str,
    case_id: int,
    reading_accession: str,
    finding: Text | str,
    code: str,
    value: object,
    unit: str = "",
    limit: Hit | Text | str | None = None,
    found_at: dt.datetime,
    orderer: Institution,
    centre_of: Institution,
    key: str,
) -> Critical:
    """Report a critical value and tell whoever must answer, in the caller's transaction; returns the call (a standing one when it is the same).

    ``source`` is "reading", "ecg", "laboratory" or "pathology"; ``case_id`` the work it was found in; ``limit`` the answer of
    :func:`limits.check`, or words. ``value`` of a finding in words may be "": the finding itself is then what is read back. ``key`` makes a
    repeated report one. The same value of the same person again, or a milder one while nobody has answered yet, is noted at the standing call;
    a worse one opens its own. Raises NotAllowed and Refused like the kernel.
    """
    words = finding if isinstance(finding, Text) else T(finding, finding)
    said = str(value).strip() or words.zh
    faults = _faults(source, code, said, words)
    if faults:
        raise Refused(faults)
    fields = {
        "source": source, "source_case_id": case_id, "accession": reading_accession[:32], "code": code[:40], "finding": words.zh[:200],
        "finding_en": words.en[:300], "value": said, "unit": unit[:30], "orderer": orderer, "centre_of": centre_of,
        "found_at": min(found_at, clock.now()), "report_key": f"{key}"[:120], **_limit(limit, code, said),
    }  # fmt: skip
    with transaction.atomic():
        _one_at_a_time(person_id, fields["code"])
        again = _again(person_id, fields, key)
        if again is not None:
            return again
        made = Found(fields)
        parties = {"orderer": orderer.pk, "centre": centre_of.pk}
        kernel.open_case(
            moves.KIND, person_id, by, {"code": fields["code"], "value": said, "unit": fields["unit"]}, f"critical:{key}"[:120],
            parties=parties, move="detect_auto" if by.everything else "detect", priority="emergency", extra={"found": made},
        )  # fmt: skip
        if made.made is None:  # the same request had been done before
            return Critical.objects.unscoped("the result of the same request").get(report_key=key[:120])
        case = Case.objects.unscoped("just opened").get(pk=made.made.pk)
        kernel.execute(
            "notify", case, Scope.system("critical value found"), {}, None, f"{case.number}:notify:1"
        )
        return _fresh(made.made.pk)


def _fresh(pk: int) -> Critical:
    found: Critical = (
        Critical.objects.unscoped("just reported")
        .select_related("case", "person", "orderer", "centre_of")
        .get(pk=pk)
    )
    return found


def _faults(source: str, code: str, said: str, words: Text) -> dict[str, Text]:
    faults: dict[str, Text] = {}
    if source not in SOURCES:
        raise ValueError(f"critical values come from {sorted(SOURCES)}, not {source!r}")
    if not words.zh.strip():
        faults["finding"] = T("请填写危急发现。", "Write what was found.")
    if not code.strip():
        faults["code"] = T("请选择危急值项目。", "Choose what is critical.")
    if len(said) > MOST_VALUE:
        faults["value"] = T(
            "结果过长，请只填写危急的数值或结论。", "Too long: give only the critical value or finding."
        )
    return faults


def _limit(limit: Hit | Text | str | None, code: str, said: str) -> dict[str, Any]:
    if isinstance(limit, Hit):
        return {
            "side": limit.side, "limit": limit.limit.zh[:120], "limit_en": limit.limit.en[:160], "rule": limit.rule[:80],
            "rule_source": limit.source[:300], "severity": limit.severity, "number": _stored(limit.number),
        }  # fmt: skip
    words = limit if isinstance(limit, Text) else T(limit or "", limit or "")
    number = effects.amount(said)
    side = "finding" if number is None else "low" if words.zh.strip().startswith(("<", "≤", "＜")) else "high"
    return {"side": side, "limit": words.zh[:120], "limit_en": words.en[:160], "number": _stored(number)}


def _stored(number: Decimal | None) -> Decimal | None:
    """A number as the column keeps it (six decimals); one beyond its size is kept as text only."""
    if number is None or abs(number) >= Decimal(10) ** 12:
        return None
    return number.quantize(Decimal("0.000001"))


def _one_at_a_time(person_id: int, code: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 11))", [f"critical:{person_id}:{code}"]
        )


def _again(person_id: int, fields: dict[str, Any], key: str) -> Critical | None:
    """The standing call this report repeats, noted there; None when it is a new one."""
    rows = Critical.objects.unscoped("repeats are looked for in the whole county").select_related("case")
    replayed: Critical | None = (
        rows.filter(report_key=key[:120]).first() or rows.filter(notes__key=f"seen:{key}"[:160]).first()
    )
    if replayed is not None:
        if replayed.person_id != person_id:
            raise kernel.KeyReused
        return replayed
    hours = int(policy.value("dedup_hours", policy.asks(fields["orderer"])))
    since = clock.now() - dt.timedelta(hours=hours)
    standing = rows.filter(person_id=person_id, code=fields["code"], live=True, reported_at__gt=since).order_by("-reported_at")  # fmt: skip
    for row in standing:
        if same(row, fields) or (row.acknowledged_at is None and not worse(row, fields)):
            Note.objects.create(
                critical=row, key=f"seen:{key}"[:160], kind="seen", value=fields["value"], unit=fields["unit"],
                reason=fields["accession"], at=clock.now(), by="",
            )  # fmt: skip
            return row
    return None


def same(row: Critical, fields: Mapping[str, Any]) -> bool:
    """The same value: equal numbers (in the limits' unit), or the same words."""
    if row.number is not None and fields["number"] is not None:
        return row.number == fields["number"] and row.side == fields["side"]
    return limits.plain(row.value) == limits.plain(fields["value"])


def worse(row: Critical, fields: Mapping[str, Any]) -> bool:
    """Further past the limit than the standing one, on the other side, or in words that differ."""
    if row.side != fields["side"] or row.number is None or fields["number"] is None:
        return True
    return bool(fields["number"] < row.number if fields["side"] == "low" else fields["number"] > row.number)


def act(
    by: Scope,
    number: str,
    move: str,
    form: Mapping[str, Any] | None = None,
    version: int | None = None,
    key: str = "",
) -> kernel.Done:
    """Make a move. A wrong read-back is refused, and stays on record as an attempt. Raises like ``duty.kernel.execute``."""
    try:
        return kernel.execute(move, number, by, form or {}, version, key)
    except WrongReadBack as wrong:
        _misheard(by, number, wrong, key)
        raise


@transaction.atomic
def _misheard(by: Scope, number: str, wrong: WrongReadBack, key: str) -> None:
    """Keep the attempt that was refused (the move itself was undone)."""
    subject = Critical.objects.unscoped("the move was refused for its form only").select_related("case").get(case__number=number)  # fmt: skip
    effects.record(
        subject, f"wrong:{key}", clock.now(), level=subject.level,
        channel="phone" if wrong.recipient else "wire" if by.machine else "page", recipient=(wrong.recipient or by.name)[:80],
        institution_id=by.institution_id, recipient_account_id=None if wrong.recipient else by.account_id,
        outcome="WRONG_READBACK", heard=wrong.heard[:120], by=by.name[:80], by_account_id=by.account_id,
    )  # fmt: skip
    audit.write(
        by, "update", person_id=subject.person_id, what=f"critical {number}", detail={"move": "wrong read-back"}
    )  # fmt: skip


def corrected(
    by: Scope,
    *,
    source: str,
    case_id: int,
    code: str = "",
    value: object,
    unit: str = "",
    reason: str,
    key: str,
) -> int:
    """A result was corrected after its call: every open call of that work (and code, when given) shows it; returns how many. Closed ones keep what they say."""
    rows = Critical.objects.unscoped("the centre's own work").filter(
        source=source, source_case_id=case_id, live=True
    )
    if code:
        rows = rows.filter(code=code)
    form = {"value": str(value)[:MOST_VALUE], "unit": unit[:30], "reason": reason[:300]}
    for row in rows.select_related("case"):
        move = "correct_auto" if by.everything else "correct"
        kernel.execute(move, row.case, by, form, None, f"{key}:correct:{row.pk}"[:120])
    return len(rows)


def open_of(person_id: int) -> list[Critical]:
    """Calls of a person that nobody has closed yet, the unanswered first. The caller has checked that the reader may open the person."""
    rows = Critical.objects.unscoped("the caller has checked the relationship").filter(
        person_id=person_id, live=True
    )
    return list(
        rows.select_related("case", "orderer", "centre_of").order_by("acknowledged_at", "-reported_at")
    )


def find(by: Scope, number: str) -> Critical:
    """A call the reader may see; NotAllowed otherwise."""
    rows = Critical.objects.within(by).select_related(
        "case", "person", "orderer", "centre_of", "team", "county", "acknowledged_at_institution"
    )
    found: Critical | None = rows.filter(case__number=number).first()
    if found is None:
        raise NotAllowed(T("没有这条危急值。", "There is no such critical value."))
    return found
