"""Frozen sections: thirty minutes from receipt, the call to the theatre with what was read back, and later the permanent section compared."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from lianxin.access.scope import Scope
from lianxin.duty import notices
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network import roles
from lianxin.regional.pathology import policy, service
from lianxin.regional.pathology.models import CONCORDANCE, Work
from lianxin.regional.reading.models import Reading, Report
from lianxin.standards import clock
from lianxin.standards.text import T


def start(work: Work, reading: Reading, now: dt.datetime) -> None:
    """The specimen is here: the clock runs (once), and the report is due when it ends."""
    if reading.modality != "FROZEN" or work.received_at is not None:
        return
    work.received_at = now
    work.due_at = now + dt.timedelta(minutes=int(policy.value("frozen.minutes", work.institution_id)))
    work.save(update_fields=["received_at", "due_at"])
    reading.report_due_at = work.due_at
    reading.save(update_fields=["report_due_at"])
    words = T("冰冻标本已到：{no}，{t} 前报告", "Frozen specimen here: {no}, report by {t}").format(
        no=work.number, t=f"{work.due_at.astimezone(clock.ZONE):%H:%M}"
    )
    notices.tell(reading.case, work.institution_id, roles.READER, words)


def issued(reading: Reading, report: Report) -> None:
    """A frozen section was reported: whoever asked is told to expect the call."""
    if reading.centre != "pathology" or reading.modality != "FROZEN":
        return
    words = T(
        "冰冻报告已签发，病理科将电话通知手术间。",
        "The frozen section is reported; pathology telephones the theatre.",
    )
    notices.tell(reading.case, reading.orderer_id, roles.CLINICIAN, words)


def call(by: Scope, reading: Reading, to: str, read_back: str) -> Work:
    """Write the call down: to whom, and what they read back. Refused without both, or before there is a report; once."""
    service.at_centre(by, reading)
    errors = {}
    if not to.strip():
        errors["to"] = T("请填写接听人。", "Say who took the call.")
    if not read_back.strip():
        errors["read_back"] = T("请记录对方复述的内容。", "Write what was read back.")
    if errors:
        raise Refused(errors)
    if reading.modality != "FROZEN" or reading.issued_at is None:
        raise NotAllowed(T("冰冻报告签发后再电话通知。", "The call follows the report of a frozen section."))
    done = Work.objects.unscoped("the case was reached within the scope").filter(pk=reading.pk, called_at=None).update(
        called_at=clock.now(), called_to=to.strip()[:80], called_by=by.name[:80], read_back=read_back.strip()[:300]
    )  # fmt: skip
    if not done:
        raise NotAllowed(T("已记录过电话通知。", "The call is written already."))
    service.trace(by, reading, reading.accession, "called", f"{to.strip()}：{read_back.strip()}")
    return service.work_of(reading)


@transaction.atomic
def link(by: Scope, permanent: Reading, frozen: Reading) -> None:
    """Say that ``permanent`` is the permanent section of ``frozen``: same person, same centre, a frozen one; once each."""
    service.at_centre(by, permanent)
    if (
        frozen.modality != "FROZEN"
        or permanent.modality == "FROZEN"
        or (frozen.person_id, frozen.centre_of_id) != (permanent.person_id, permanent.centre_of_id)
    ):
        raise Refused(
            {
                "frozen": T(
                    "须为同一患者、同一中心的冰冻病例。",
                    "A frozen section of the same patient at the same centre.",
                )
            }
        )
    work, other = service.work_of(permanent), service.work_of(frozen)
    taken = (
        Work.objects.unscoped("one permanent section for each")
        .filter(frozen=other)
        .exclude(pk=work.pk)
        .exists()
    )
    if taken or (work.frozen_id is not None and work.frozen_id != other.pk):
        raise Refused(
            {
                "frozen": T(
                    "该冰冻病例已有对应的石蜡病例。", "That frozen section has its permanent section already."
                )
            }
        )
    work.frozen = other
    work.save(update_fields=["frozen"])
    service.trace(by, permanent, permanent.accession, "linked", frozen.accession)


def compare(by: Scope, permanent: Reading, concordance: str, note: str = "") -> Work:
    """How frozen and permanent agree, once both are reported. A difference says what it was. Refused, NotAllowed."""
    service.at_centre(by, permanent)
    if not by.has(roles.READER):
        raise NotAllowed(T("由病理医师对照。", "A pathologist compares."))
    work = service.work_of(permanent)
    if work.frozen is None or permanent.issued_at is None or work.frozen.reading.issued_at is None:
        raise NotAllowed(T("冰冻与石蜡均签发后才能对照。", "Both must be reported first."))
    if concordance not in CONCORDANCE:
        raise Refused({"concordance": T("请选择符合情况。", "Choose how they agree.")})
    if concordance in ("minor", "major") and not note.strip():
        raise Refused({"note": T("不符须说明差异。", "Say what differs.")})
    work.concordance, work.concordance_note = concordance, note.strip()[:300]
    work.compared_by, work.compared_at = by.name[:80], clock.now()
    work.save(update_fields=["concordance", "concordance_note", "compared_by", "compared_at"])
    service.trace(by, permanent, permanent.accession, "compared", concordance)
    return work


def watch() -> int:
    """Tell the readers once of each frozen section whose clock has run out without a report; how many (periodic)."""
    now, told = clock.now(), 0
    rows = Work.objects.unscoped("periodic: clocks of frozen sections").filter(
        due_at__lte=now, late_at=None, reading__issued_at=None, reading__live=True
    )
    for work in rows.select_related("reading__case").order_by("pk")[:100]:
        if not Work.objects.unscoped("told once").filter(pk=work.pk, late_at=None).update(late_at=now):
            continue
        words = T(
            "冰冻 {no} 已超过时限，请立即报告并电话告知手术间。",
            "Frozen section {no} is overdue; report it now and telephone the theatre.",
        ).format(no=work.number)
        for role in (roles.READER, roles.MANAGER):
            notices.tell(work.reading.case, work.institution_id, role, words, level=1)
        told += 1
    return told
