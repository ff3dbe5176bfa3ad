"""Reports by version: the draft that is saved while typing, the signature, the amendment. What is signed never changes."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.db.models import Max

from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.regional.reading import errors
from lianxin.regional.reading.models import Reading, Report
from lianxin.standards import clock
from lianxin.standards.text import T

CONTENT = ("template", "findings", "conclusion", "structured", "measurements", "key_images", "positive")


def _rows() -> Any:
    return Report.objects.unscoped("the work was reached within the scope")


def mark(report: Report) -> str:
    """A short fingerprint of a report's content: what was on the screen when it was signed."""
    text = json.dumps([getattr(report, name) for name in CONTENT], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_draft(reading: Reading, seat: str, by: Scope, content: Mapping[str, Any]) -> Report:
    """Keep what the holder of a seat has typed (fields of ``CONTENT``); the draft is made when there is none. NotAllowed for a draft of
    somebody else's (an approver may change what was proposed to them)."""
    report = _rows().select_for_update().filter(reading=reading, seat=seat, state__in=("draft", "proposed")).first()  # fmt: skip
    if report is not None and report.state == "draft" and report.account_id != by.account_id:
        report.state = (
            "dropped"  # the claim went to somebody else: they write their own, the earlier text is kept
        )
        report.save(update_fields=["state"])
        report = None
    if report is None:
        if by.account_id is None:
            raise NotAllowed(T("报告须由诊断医师本人书写。", "A report is written by a person."))
        report = Report(
            reading=reading, institution_id=reading.centre_of_id, seat=seat,
            version=next_version(reading, seat), account_id=by.account_id, practitioner_id=by.practitioner_id,
        )  # fmt: skip
    if report.completed_at is not None:
        raise errors.completed()
    for name in CONTENT:
        if name in content:
            setattr(report, name, content[name])
    report.saved_at = clock.now()
    report.save()
    return report


def next_version(reading: Reading, seat: str) -> int:
    """The number of the next version for a seat."""
    last = _rows().filter(reading=reading, seat=seat).aggregate(last=Max("version"))["last"]
    return (last or 0) + 1


def draft_of(reading: Reading, seat: str, account_id: int, seen: str = "") -> Report:
    """The draft that this account signs now, locked; Refused when there is none, it has no conclusion, or it is not what they saw."""
    report = _rows().select_for_update().filter(reading=reading, seat=seat, state="draft", account_id=account_id).first()  # fmt: skip
    if report is None or not report.conclusion.strip():
        raise Refused({"conclusion": T("请书写诊断意见后再签发。", "Write the conclusion before signing.")})
    if seen and seen != mark(report):
        raise Refused(
            {
                "__all__": T(
                    "报告内容已变化，请重新查看后再签发。",
                    "The report has changed; look at it again, then sign.",
                )
            }
        )
    found: Report = report
    return found


def complete(reading: Reading, account_id: int) -> Report:
    """The blind second reader says their own report is whole: from now on it stands, and they may see the first. Refused like ``draft_of``."""
    report = draft_of(reading, "second", account_id)
    if report.completed_at is None:
        report.completed_at = clock.now()
        report.save(update_fields=["completed_at"])
    return report


def proposed(reading: Reading) -> Report:
    """The report that waits for approval, locked."""
    found: Report = _rows().select_for_update().get(reading=reading, seat="first", state="proposed")
    return found


def sign(report: Report, at: dt.datetime) -> None:
    """Sign: from now on it stands."""
    report.state, report.signed_at = "signed", at
    report.save()


def signed(reading: Reading, seat: str) -> Report:
    """The last signed version of a seat."""
    found: Report = _rows().filter(reading=reading, seat=seat, state="signed").order_by("-version").first()
    return found


def issued(reading: Reading) -> Report | None:
    """The report in force: the one that went out last (an amendment, the arbiter's choice, or the first reading)."""
    if reading.issued_at is None:
        return None
    from lianxin.regional.reading.models import Review

    review = Review.objects.unscoped("the work's own review").filter(pk=reading.pk).first()
    seat = {"second": "second", "own": "arbitrate"}.get(review.decided, "first") if review else "first"
    found: Report | None = (
        _rows().filter(reading=reading, state="signed", reason__gt="").order_by("-signed_at", "-pk").first()
    )
    return found or _rows().filter(reading=reading, seat=seat, state="signed").order_by("-version").first()


def outgoing(reading: Reading) -> list[Report]:
    """What went out, oldest first: the report that was issued and its amendments. Second readings and drafts never go out."""
    now = issued(reading)
    if now is None:
        return []
    rows = _rows().filter(reading=reading, state="signed", seat=now.seat)
    return list(rows.select_related("practitioner", "approver").order_by("version"))


def versions(reading: Reading) -> list[Report]:
    """Everything that was signed, oldest first."""
    return list(_rows().filter(reading=reading, state="signed").select_related("practitioner", "approver").order_by("signed_at", "pk"))  # fmt: skip


def amended(reading: Reading, by: Scope, data: Mapping[str, Any], at: dt.datetime) -> Report:
    """A new signed version beside the old ones; Refused when it says nothing new."""
    if by.account_id is None:
        raise NotAllowed(T("报告须由诊断医师本人更正。", "A report is amended by a person."))
    before = issued(reading)
    assert before is not None
    if data.get("seen") and data["seen"] != mark(before):
        raise Refused(
            {
                "__all__": T(
                    "该报告已有更新的版本，请查看后再更正。", "There is a newer version of this report; look at it first."
                )
            }
        )  # fmt: skip
    report = Report(
        reading=reading, institution_id=reading.centre_of_id, seat=before.seat,
        version=next_version(reading, before.seat), account_id=by.account_id, practitioner_id=by.practitioner_id,
        template=before.template, structured=before.structured, measurements=before.measurements, key_images=before.key_images,
        findings=data["findings"], conclusion=data["conclusion"],
        positive=before.positive if data.get("positive") is None else data["positive"], reason=data["reason"], saved_at=at,
    )  # fmt: skip
    if mark(report) == mark(before):
        raise Refused(
            {"conclusion": T("与现行报告相同，无需更正。", "This is what the report says already.")}
        )
    sign(report, at)
    return report


def drop_drafts(reading: Reading) -> None:
    """What was typed and not signed is set aside (the row is kept)."""
    _rows().filter(reading=reading, state__in=("draft", "proposed")).update(state="dropped")
