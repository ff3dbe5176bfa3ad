"""What pages, doors and scenarios call. Every change of a case goes through ``duty.kernel``; nothing here moves a case itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.network.models import Institution, Practitioner
from lianxin.regional.reading import moves, queue, reports
from lianxin.regional.reading.effects import Ask
from lianxin.regional.reading.models import Entry, Item, Reading, Report
from lianxin.standards.text import T


def order(
    by: Scope,
    person_id: int,
    items: Sequence[Item],
    form: Mapping[str, Any],
    key: str,
    *,
    performer: Institution,
    centre_of: Institution,
    priority: str = "routine",
    requisition: str = "",
    source: str = "staff",
    facts: Mapping[str, Any] | None = None,
) -> Reading:
    """Open one piece of work for ``items`` (of one centre and one modality). Raises Refused, NotAllowed, KeyReused."""
    if not items or len({(i.centre, i.modality) for i in items}) != 1:
        raise Refused(
            {"items": T("一张申请只能包含同一类项目。", "One request holds items of one kind only.")}
        )
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    ask = Ask(
        list(items), requisition or f"R{key}"[:32], performer, centre_of, source,
        Practitioner.objects.filter(pk=by.practitioner_id).first() if by.practitioner_id else None, dict(facts or {}),
    )  # fmt: skip
    done = kernel.open_case(
        moves.KIND, person_id, by, form, key, parties={"orderer": by.institution_id}, priority=priority, extra={"ask": ask}
    )  # fmt: skip
    return ask.made or reading_of(done.case)


def reading_of(case: Case) -> Reading:
    """The work of a case."""
    found: Reading = Reading.objects.unscoped("the case was reached within the scope").get(pk=case.pk)
    return found


def act(
    by: Scope,
    number: str,
    move: str,
    form: Mapping[str, Any] | None = None,
    version: int | None = None,
    key: str = "",
) -> kernel.Done:
    """Make a move. Raises like ``duty.kernel.execute``."""
    return kernel.execute(move, number, by, form or {}, version, key)


def claim(by: Scope, centre: str, number: str | None = None) -> tuple[Entry, queue.Claim] | None:
    """Take the next seat of ``centre`` (or a seat of case ``number``); None when there is nothing to take."""
    reader = queue.reader_of(by, centre)
    entry_id = None
    if number is not None:
        waiting = Entry.objects.within(by).filter(reading__case__number=number, state="waiting")
        entry_id = waiting.values_list("pk", flat=True).order_by("pk").first()
        if entry_id is None:
            return None
    got = queue.claim(reader, entry_id)
    if got is None:
        return None
    return Entry.objects.unscoped("just claimed").select_related("reading__case").get(pk=got.entry_id), got


@transaction.atomic
def save_draft(by: Scope, number: str, token: str, content: Mapping[str, Any]) -> Report:
    """Keep what the holder of a seat typed and lengthen their lease; NotAllowed when the seat is theirs no more."""
    entry = (
        Entry.objects.within(by)
        .select_related("reading")
        .filter(reading__case__number=number, state="claimed", account_id=by.account_id or 0)
        .first()
    )
    if entry is None or str(entry.token) != token:
        from lianxin.regional.reading import errors

        raise errors.claim_lost()
    queue.renew(entry.pk, token, entry.account_id)
    seat = {"approve": "first"}.get(entry.seat, entry.seat)
    return reports.save_draft(entry.reading, seat, by, content)


def arrived(accession: str, study_uid: str = "", device: str = "", facts: Mapping[str, Any] | None = None) -> bool:  # fmt: skip
    """The archive (or a device's file) has what was ordered under ``accession``: the study enters the queue. False when nothing waits."""
    reading = (
        Reading.objects.unscoped("the archive knows the accession number")
        .select_related("case")
        .filter(accession=accession, live=True, case__state__in=moves.BEFORE)
        .first()
    )
    if reading is None:
        return False
    with transaction.atomic():
        if study_uid or facts:
            if study_uid:
                reading.study_uid = study_uid
            reading.facts = reading.facts | dict(facts or {})
            reading.save(update_fields=["study_uid", "facts"])
        kernel.execute(
            "arrived", reading.case, Scope.system("images arrived"), {"device": device}, None,
            f"arrived:{reading.accession}:{reading.case.version}",
        )  # fmt: skip
    return True
