"""What pages, doors and scenarios call. Every change of a case goes through ``duty.kernel``; nothing here moves a case itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import kernel, notices
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Act, Case
from lianxin.network import roles
from lianxin.network.models import Institution, Practitioner
from lianxin.regional.reading import amendment, effects, errors, moves, publish, queue, reports
from lianxin.regional.reading.effects import Ask
from lianxin.regional.reading.models import Amendment, Entry, Item, Reader, Reading, Report
from lianxin.standards.text import T, Text


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
    with transaction.atomic():
        got = queue.claim(reader, entry_id)
        if got is None:
            return None
        entry = Entry.objects.unscoped("just claimed").select_related(*_TOLD).get(pk=got.entry_id)
        _tell(by, entry, "claim")
    return entry, got


_TOLD = tuple(f"reading__{name}" for name in ("case", "person", "orderer", "centre_of"))


def _tell(by: Scope, entry: Entry, what: str) -> None:
    """A claim moves no case: the Task is written again for whoever follows it, and the act is audited."""
    publish.claimed(entry.reading)
    audit.write(
        by, "update", person_id=entry.person_id, what=f"reading {entry.reading.case.number}",
        detail={"claim": what, "seat": entry.seat},
    )  # fmt: skip


def held(by: Scope, number: str, token: str = "") -> Entry:
    """The seat of a piece of work that ``by`` holds (with this token, when one is given); NotAllowed when they hold none."""
    rows = Entry.objects.within(by).select_related(*_TOLD)
    entry: Entry | None = rows.filter(
        reading__case__number=number, state="claimed", account_id=by.account_id or 0
    ).first()
    if entry is None or (token and str(entry.token) != token):
        raise errors.claim_lost()
    return entry


def renew(by: Scope, number: str, token: str) -> dt.datetime:
    """Lengthen the lease; NotAllowed when the seat is theirs no more."""
    entry = held(by, number, token)
    return queue.renew(entry.pk, token, entry.account_id or 0)


@transaction.atomic
def give_back(by: Scope, number: str, reason: str = "") -> None:
    """Give a held seat back to the queue."""
    entry = held(by, number)
    queue.give_back(entry.pk, entry.account_id or 0, reason)
    _tell(by, entry, "give back")


@transaction.atomic
def hand_over(by: Scope, number: str, to: Reader, reason: str) -> None:
    """Hand a held seat to an expert, who is told; Refused without a reason."""
    if not reason.strip():
        raise Refused({"reason": T("请说明为何转专家。", "Say why it is handed over.")})
    entry = held(by, number)
    queue.hand_over(entry.pk, entry.account_id or 0, to, reason)
    _tell(by, entry, "hand over")
    words = T("{no} 转您诊断：{why}", "{no} was handed to you: {why}").format(
        no=entry.reading.accession, why=reason
    )
    tell_account(to.account_id, entry.reading, words)


@transaction.atomic
def take_back(by: Scope, entry_id: int, account_id: int) -> None:
    """What somebody holds goes back to the queue because they read no more (whoever runs the centre says so)."""
    queue.give_back(entry_id, account_id, T("停用", "no longer a reader").zh)
    entry = Entry.objects.unscoped("just given back").select_related(*_TOLD).get(pk=entry_id)
    _tell(by, entry, "take back")


def tell_account(account_id: int, reading: Reading, words: Text) -> None:
    """A notice to one account about a piece of work."""
    notices.tell(reading.case, reading.centre_of_id, roles.READER, words, account_id=account_id)


@transaction.atomic
def open_up(by: Scope, centre: str, entry_id: int, reason: str) -> bool:
    """An approver lets everybody take what waits for one person; False when it waits for nobody any more."""
    if not queue.open_up(entry_id, queue.reader_of(by, centre), reason):
        return False
    entry = Entry.objects.unscoped("just opened").select_related(*_TOLD).get(pk=entry_id)
    _tell(by, entry, "open up")
    return True


@transaction.atomic
def complete(by: Scope, number: str, token: str) -> Report:
    """The blind second reader's own report is whole: it stands, and the first may be shown to them. Refused without a conclusion."""
    entry = held(by, number, token)
    if entry.seat != "second":
        raise NotAllowed(T("当前不是双读。", "This is no second reading."))
    queue.renew(entry.pk, str(entry.token), entry.account_id or 0)
    report = reports.complete(entry.reading, entry.account_id or 0)
    audit.write(
        by,
        "update",
        person_id=entry.person_id,
        what=f"reading {number}",
        detail={"second reading": "complete"},
    )
    return report


def amend(by: Scope, number: str, form: Mapping[str, Any], key: str) -> kernel.Done:
    """Amend what was issued: on its own case while nobody has acknowledged it, else as a case of its own (``amendment``).

    Raises like ``duty.kernel.execute``.
    """
    return kernel.collision_proof(lambda: _amend(by, number, form, key))


@transaction.atomic
def _amend(by: Scope, number: str, form: Mapping[str, Any], key: str) -> kernel.Done:
    found = Case.objects.within(by).filter(number=number, kind=moves.KIND).select_for_update(of=("self",), no_key=True)  # fmt: skip
    case = found.first()
    if case is None:
        raise NotAllowed(T("没有这份报告。", "There is no such report."))
    if case.state != "acknowledged":
        return kernel.execute("amend", case, by, form, None, key)
    reading = effects.load(case)
    assert reading is not None
    again = Amendment.objects.unscoped("the work was reached within the scope").filter(reading=reading, live=True).select_related("case").first()  # fmt: skip
    if again is not None and Act.objects.filter(key=key, seq=1, case=again.case).exists():
        again = None  # the same request once more: the kernel gives its first result
    if again is not None:
        return kernel.execute("amend_again", again.case, by, form, None, key)
    return kernel.open_case(
        amendment.KIND, reading.person_id, by, form, key,
        parties={"centre": reading.centre_of_id, "orderer": reading.orderer_id}, priority=case.priority, extra={"reading": reading},
    )  # fmt: skip


def sweep() -> int:
    """Give back every seat whose lease ran out and say so on its Task; how many."""
    with transaction.atomic():
        back = queue.lapse()
        rows = Reading.objects.unscoped("lapsed claims").select_related(
            "case", "person", "orderer", "centre_of"
        )
        for reading in rows.filter(pk__in=back).order_by("pk"):
            publish.claimed(reading)
    return len(back)


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
