"""What pages, doors and scenarios call. Every change of a case goes through ``duty.kernel``; nothing here moves a case itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.network.models import Institution, Practitioner
from lianxin.regional.laboratory import catalogue, errors, moves, results, transport, verification
from lianxin.regional.laboratory.effects import Tests
from lianxin.regional.laboratory.models import Box, Specimen, Work
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)
_SYSTEM = "the laboratory's devices and rules"


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
    pregnant_weeks: int | None = None,
) -> Reading:
    """Open laboratory work for ``items`` of one specimen kind, taken at ``performer`` and measured at ``centre_of``. Raises Refused,
    NotAllowed, KeyReused."""
    _one_kind(items)
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    ask = Tests(
        list(items), requisition or f"R{key}"[:32], performer, centre_of, source, _practitioner(by), dict(facts or {}),
        pregnant_weeks=pregnant_weeks,
    )  # fmt: skip
    done = kernel.open_case(
        moves.KIND, person_id, by, form, key, parties={"orderer": by.institution_id}, priority=priority, extra={"ask": ask}
    )  # fmt: skip
    return ask.made or reading_of(done.case)


def _one_kind(items: Sequence[Item]) -> None:
    if not items or {i.centre for i in items} != {"laboratory"} or len({i.specimen for i in items}) != 1:
        raise Refused(
            {
                "items": T(
                    "一张检验单只能包含同一种标本的项目。", "One request holds tests of one kind of specimen."
                )
            }
        )
    unknown = [
        i
        for i in items
        if not catalogue.load().panels.get(i.code) or i.specimen not in catalogue.load().kinds
    ]
    if unknown:
        raise Refused(
            {
                "items": T("检验中心未开展：{n}。", "Not done by the laboratory: {n}.").format(
                    n=unknown[0].label
                )
            }
        )


def _practitioner(by: Scope) -> Practitioner | None:
    return Practitioner.objects.filter(pk=by.practitioner_id).first() if by.practitioner_id else None


def add_on(by: Scope, tube_number: str, items: Sequence[Item], form: Mapping[str, Any], key: str, *, priority: str = "routine") -> Reading:  # fmt: skip
    """Add tests to a tube that was kept, as work of its own on the same tube. Raises Refused when the tube is gone or too old for them."""
    _one_kind(items)
    tube = transport.tube_of(by, tube_number)
    if items[0].specimen != tube.kind:
        raise Refused({"items": T("标本类型不符。", "Another kind of specimen.")})
    first = Reading.objects.unscoped("the tube was reached within the scope").select_related(
        "orderer", "performer", "centre_of", "laboratory"
    ).get(pk=tube.reading_id)  # fmt: skip
    if not {first.orderer_id, first.centre_of_id} & by.institution_ids:
        raise errors.no_tube(tube_number)
    done_before = (
        Work.objects.unscoped("the same tube").filter(specimen=tube).exclude(reading__case__state="cancelled")
    )
    have = set(
        done_before.filter(reading__ordered__active=True).values_list(
            "reading__ordered__item__code", flat=True
        )
    )
    again = [i for i in items if i.code in have]
    if again:
        raise Refused(
            {
                "items": T("该标本已申请过{n}。", "{n} was ordered on this tube already.").format(
                    n=again[0].label
                )
            }
        )
    ask = Tests(
        list(items), f"R{key}"[:32], first.performer, first.centre_of, "add_on", _practitioner(by), {"added_to": first.accession}, tube=tube,
        pregnant_weeks=first.laboratory.pregnant_weeks,
    )  # fmt: skip
    done = kernel.open_case(
        moves.KIND, first.person_id, by, form, key, parties={"orderer": first.orderer_id, "performer": first.performer_id, "centre": first.centre_of_id}, move="add_on", priority=priority,
        extra={"ask": ask},
    )  # fmt: skip
    return ask.made or reading_of(done.case)


def reading_of(case: Case) -> Reading:
    """The work of a case with its tube."""
    rows = Reading.objects.unscoped("the case was reached within the scope").select_related(
        "person", "laboratory__specimen"
    )
    found: Reading = rows.get(pk=case.pk)
    return found


def act(
    by: Scope,
    number: str,
    move: str,
    form: Mapping[str, Any] | None = None,
    version: int | None = None,
    key: str = "",
) -> kernel.Done:
    """Make a move; results that complete a report are then put before the rules. Raises like ``duty.kernel.execute``."""
    done = kernel.execute(move, number, by, form or {}, version, key)
    if move == "enter" and done.case.state == "resulted" and not done.replayed:
        judge(done.case)
    return done


def judge(case: Case) -> bool:
    """Put a complete report before the rules of automatic verification: True when it went out (or on) by them; why not is kept."""
    subject = reading_of(case)
    reasons = verification.why_not(subject)
    if results.lacking(subject):
        return False
    if reasons:
        Work.objects.unscoped("the rules' own note").filter(pk=subject.pk).update(why_not=[reasons])
        return False
    try:
        kernel.execute(
            "by_rule", case, Scope.system(_SYSTEM), {}, None, f"by_rule:{case.number}:{case.version}"
        )
    except MoveError as refused:  # somebody was faster: it stands as they left it
        log.info("%s was not verified by rule: %s", case.number, refused)
        return False
    return True


def measured(case: Case, rows: list[dict[str, Any]], key: str) -> kernel.Done:
    """A device's results for a piece of work; the same ``key`` again changes nothing. Raises Refused naming what cannot be taken."""
    done = kernel.execute("measured", case, Scope.system(_SYSTEM), {"rows": rows}, None, key)
    if done.case.state == "resulted" and not done.replayed:
        judge(done.case)
    return done


@transaction.atomic
def receive_box(
    by: Scope, number: str, tubes: Sequence[str], key: str
) -> tuple[Box, list[str], dict[str, Any]]:
    """The laboratory scanned a box and these tubes: the box, tubes that were received, and why not the others (by bar code)."""
    box = transport.arrive(by, number)
    done: list[str] = []
    why: dict[str, Any] = {}
    for given in dict.fromkeys(t.strip().upper() for t in tubes if t.strip()):
        try:
            with transaction.atomic():
                tube = transport.tube_of(by, given)
                if tube.box_id != box.pk:
                    raise Refused(
                        {
                            "tube": T(
                                "标本 {n} 不在本箱清单中。", "Tube {n} is not on this box's list."
                            ).format(n=given)
                        }
                    )
                if tube.state in ("received", "stored"):
                    done.append(tube.number)
                    continue
                act(by, tube.reading.case.number, "receive", {}, None, f"{key}:{tube.pk}")
                done.append(tube.number)
        except MoveError as trouble:
            why[given] = trouble.text
    return box, done, why


@transaction.atomic
def dispose(by: Scope, numbers: Sequence[str]) -> int:
    """Tubes that were kept long enough are disposed of; how many. A tube with work left on it stays."""
    by.demand("run_laboratory")
    rows = Specimen.objects.within(by).filter(
        number__in=list(numbers)[:500], state__in=("received", "stored"), keep_until__lte=clock.now(), centre_of_id__in=by.institution_ids
    ).exclude(works__reading__case__state__in=("received", "in_analysis", "resulted", "verified"))  # fmt: skip
    ids = list(rows.values_list("pk", flat=True))
    done = (
        Specimen.objects.unscoped("chosen within the scope").filter(pk__in=ids)
        .update(state="disposed", ended_at=clock.now(), ended_by=by.account_id, position="")
    )  # fmt: skip
    audit.write(by, "update", what="tubes disposed of", detail={"tubes": ids})
    return int(done)


@transaction.atomic
def place(by: Scope, number: str, position: str) -> Specimen:
    """Say where a tube is kept."""
    by.demand("run_laboratory")
    tube = transport.tube_of(by, number)
    rows = Specimen.objects.unscoped("reached within the scope").filter(
        pk=tube.pk, state__in=("received", "stored"), centre_of_id__in=by.institution_ids
    )
    if not rows.update(position=position.strip()[:40]):
        raise errors.no_tube(number)
    tube.refresh_from_db()
    return tube


def sweep() -> int:
    """Complete reports that were not put before the rules (the process fell over in between); how many went out."""
    rows = Work.objects.unscoped("reports left between two steps").filter(
        reading__case__state="resulted", auto=False, why_not=[], resulted_at__lt=clock.now()
    )
    return sum(judge(work.reading.case) for work in rows.select_related("reading__case").order_by("pk")[:200])
