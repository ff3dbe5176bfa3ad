"""One request, split into the pieces of work it means: an imaging item each, one ECG, a specimen each, all opened in one transaction.

Before anything is opened the recognisable results are looked up: what is recognised is not done again, what must be recognised is
repeated with a coded reason only, and each decision is a row tied to the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.clinical.recognition import decisions as recognition
from lianxin.clinical.recognition import search
from lianxin.clinical.recognition.decisions import Choice
from lianxin.clinical.recognition.search import Hit
from lianxin.duty import forms
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network.models import Institution
from lianxin.regional.laboratory import service as laboratory
from lianxin.regional.ordering import places
from lianxin.regional.ordering.models import Requisition
from lianxin.regional.reading import service as reading
from lianxin.regional.reading.forms import OrderForm
from lianxin.regional.reading.models import RANKS, Item, Ordered, Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MOST = 30
DONE = ("issued", "acknowledged", "cancelled")
"""States in which an order is no longer waited for (of every machine of the centres)."""


@dataclass
class Placed:
    """What came of a request: its row, the work that was opened, the decisions."""

    requisition: Requisition
    readings: list[Reading] = field(default_factory=list)
    replayed: bool = False


def items_of(codes: Iterable[str]) -> list[Item]:
    """The items of these codes, in this order; Refused naming what there is not."""
    wanted = list(dict.fromkeys(codes))
    if not wanted:
        raise Refused({"items": T("请至少选择一个项目。", "Choose at least one item.")})
    if len(wanted) > MOST:
        raise Refused(
            {"items": T("一次最多申请 {n} 项。", "At most {n} items at a time.").format(n=str(MOST))}
        )
    found = {i.code: i for i in Item.objects.filter(code__in=wanted, active=True)}
    unknown = [code for code in wanted if code not in found]
    if unknown:
        raise Refused(
            {"items": T("没有这个项目：{c}。", "There is no such item: {c}.").format(c=unknown[0][:40])}
        )
    return [found[code] for code in wanted]


def hits_for(by: Scope, person_id: int, items: Sequence[Item]) -> list[Hit]:
    """The recognisable result for each item that has one (the one to decide about). The caller has checked the relationship."""
    if by.institution_id is None:
        return []
    return recognition.best(search.find(person_id, [i.group for i in items if i.group], by.institution_id))


def open_orders(person_id: int, items: Sequence[Item]) -> dict[str, Reading]:
    """Work still under way for the same items, by item code: ordering it again would be double."""
    rows = (
        Ordered.objects.filter(
            reading__person_id=person_id, reading__live=True, item__in=list(items), active=True
        )
        .exclude(reading__case__state__in=DONE)
        .select_related("reading__case", "reading__orderer", "item")
        .order_by("pk")
    )
    return {row.item.code: row.reading for row in rows}


def place(
    by: Scope,
    person_id: int,
    item_codes: Sequence[str],
    form: Mapping[str, Any],
    key: str,
    *,
    priority: str = "routine",
    performer: Institution | None = None,
    centre_of: Institution | None = None,
    decisions: Mapping[int, Choice] | None = None,
    performers: Mapping[str, Institution] | None = None,
    repeat: bool = False,
    source: str = "staff",
    placer: str = "",
) -> list[Reading]:
    """Open everything that ``item_codes`` mean (see :func:`request`); the pieces of work."""
    return request(
        by, person_id, item_codes, form, key, priority=priority, performer=performer, centre_of=centre_of, decisions=decisions,
        performers=performers, repeat=repeat, source=source, placer=placer,
    ).readings  # fmt: skip


@transaction.atomic
def request(
    by: Scope,
    person_id: int,
    item_codes: Sequence[str],
    form: Mapping[str, Any],
    key: str,
    *,
    priority: str = "routine",
    performer: Institution | None = None,
    centre_of: Institution | None = None,
    decisions: Mapping[int, Choice] | None = None,
    performers: Mapping[str, Institution] | None = None,
    repeat: bool = False,
    source: str = "staff",
    placer: str = "",
) -> Placed:
    """Place a request, all or nothing; the same ``key`` (or the sender's same ``placer``) again gives what was placed.

    ``decisions`` by result id; ``performers`` by item code (default: :mod:`places`); ``repeat`` allows what is under way already.
    Raises Refused (also naming results that must be recognised, as ``hit-<id>``), NotAllowed, NotPermitted, NoRelationship.
    """
    by.demand("order_tests")
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）。", "Choose the post you act in first."))
    relationships.require(by, person_id)
    if priority not in RANKS:
        raise Refused({"priority": T("没有这个优先级。", "There is no such priority.")})
    _one_at_a_time(person_id)
    already = _again(by, person_id, key, placer)
    if already is not None:
        return already
    items = items_of(item_codes)
    words = _words(form)
    hits = hits_for(by, person_id, items)
    chosen = _chosen(hits, decisions or {}, priority, source)
    recognised = {hit.wanted.code for hit in hits if hit.pk in chosen and chosen[hit.pk].recognise}
    left = [item for item in items if item.group not in recognised or not item.group]
    twice = open_orders(person_id, left)
    if twice and not repeat:
        raise Refused({"repeat": _double(twice)})
    own = Institution.objects.select_related("parent").get(pk=by.institution_id)
    made = Requisition(
        number=_number(), person_id=person_id, institution=own, practitioner_id=by.practitioner_id, account_id=by.account_id,
        client_id=by.client_id, placer=placer[:80], source=source, priority=priority, items=[i.code for i in items],
        recognised=[i.code for i in items if i not in left], indication=words["indication"], diagnosis=words["diagnosis"],
        at=clock.now(), key=key[:160],
    )  # fmt: skip
    made.save(force_insert=True)
    placed = Placed(made)
    able = places.candidates(own, left) if left else {}
    for piece, where in _pieces(left, own, able, performer, performers or {}):
        opened = laboratory.order if piece[0].centre == "laboratory" else reading.order
        work = opened(
            by, person_id, piece, dict(form), f"{key}:{piece[0].code}"[:160], performer=where, centre_of=centre_of or places.centre_for(where),
            priority=priority, requisition=made.number, source=source,
        )  # fmt: skip
        placed.readings.append(work)
    numbers = {i.group: w.case.number for w in placed.readings for i in left if i.group and _has(w, i)}
    recognition.decide(
        by, person_id, [h for h in hits if h.pk in chosen], chosen, order=made.number, door=_DOORS[source], key=key,
        numbers=numbers, items={i.group: i.code for i in items},
    )  # fmt: skip
    audit.write(by, "create", person_id=person_id, what=f"requisition {made.number}", detail={"items": made.items, "recognised": made.recognised})  # fmt: skip
    return placed


_DOORS = {"staff": "page", "fhir": "fhir", "v2": "v2"}


def _words(form: Mapping[str, Any]) -> dict[str, str]:
    checked = OrderForm(form)
    if not checked.is_valid():
        raise Refused(forms.errors_of(checked))
    return checked.cleaned_data


def _chosen(
    hits: Sequence[Hit], given: Mapping[int, Choice], priority: str, source: str
) -> dict[int, Choice]:
    """A choice for every hit that needs one. Care comes first: an emergency is never held up (reason 04 is written for it); a system that
    was not shown what may be recognised has not decided about it."""
    found: dict[int, Choice] = {}
    errors: dict[str, Text] = {}
    for hit in hits:
        choice = given.get(hit.pk)
        if choice is None and priority == "emergency":
            choice = Choice(False, "04")
        if choice is None and not hit.must and (source != "staff" or hit.own):
            continue
        try:
            found[hit.pk] = recognition.check(hit, choice)
        except Refused as refusal:
            errors |= refusal.errors
    if errors:
        raise Refused(errors)
    return found


def _double(twice: Mapping[str, Reading]) -> Text:
    code, work = next(iter(twice.items()))
    name = Item.objects.get(code=code).label
    return T(
        "{item} 已有未完成的申请 {no}（{who}，{at}）；确需再做请勾选“仍要申请”。",
        "{item} is under way already: {no} ({who}, {at}); tick “order it all the same” if it is meant.",
    ).format(item=name, no=work.case.number, who=work.orderer.short_label, at=f"{work.ordered_at.astimezone(clock.ZONE):%m-%d %H:%M}")  # fmt: skip


def _pieces(
    items: Sequence[Item], own: Institution, able: Mapping[str, Sequence[Institution]], performer: Institution | None,
    performers: Mapping[str, Institution],
) -> list[tuple[list[Item], Institution]]:  # fmt: skip
    """Items that are one piece of work, with who does it: tests of one specimen together, everything else by itself."""
    found: dict[tuple[Any, ...], tuple[list[Item], Institution]] = {}
    for item in items:
        where = performers.get(item.code) or performer or able[item.code][0]
        if where.pk not in {i.pk for i in able[item.code]} and performer is None:
            raise Refused(
                {
                    "items": T("{who}不能做 {item}。", "{who} does not do {item}.").format(
                        who=where.short_label, item=item.label
                    )
                }
            )
        together = ("lab", item.specimen, where.pk) if item.centre == "laboratory" else (item.code,)
        found.setdefault(together, ([], where))[0].append(item)
    return list(found.values())


def _has(work: Reading, item: Item) -> bool:
    return bool(work.ordered.filter(item=item).exists())


def _number() -> str:
    with connection.cursor() as cur:
        cur.execute("SELECT nextval(pg_get_serial_sequence('ordering_requisition', 'id'))")
        serial = int(cur.fetchone()[0])
    return f"SQ{clock.today():%y%m%d}-{serial}"


def _again(by: Scope, person_id: int, key: str, placer: str) -> Placed | None:
    """What was placed under this key (or this number of the sender's); Refused when that was for somebody else."""
    rows = Requisition.objects.unscoped("the caller's own request")
    found = rows.filter(key=key[:160]).first()
    if found is None and placer and by.client_id is not None:
        found = rows.filter(client_id=by.client_id, placer=placer[:80]).first()
    if found is None:
        return None
    if found.person_id != person_id or found.institution_id != by.institution_id:
        raise Refused(
            {"placer": T("该申请号已用于另一位患者。", "This order number belongs to another patient.")}
        )
    return Placed(found, pieces(found), replayed=True)


def pieces(requisition: Requisition) -> list[Reading]:
    """The work of a request already reached within a scope."""
    rows = Reading.objects.unscoped("the request was reached within the scope").filter(
        requisition=requisition.number
    )
    return list(rows.select_related("case", "person", "orderer", "performer", "centre_of").order_by("pk"))


def _one_at_a_time(person_id: int) -> None:
    """One person's requests follow one another until the transaction ends: two at once would each find nothing under way."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 41))", [f"order:{person_id}"])
