"""What the pages of this room show, worked out from rows. No decisions, no writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope
from lianxin.clinical.recognition import results, shipped
from lianxin.clinical.recognition.results import Content
from lianxin.clinical.recognition.search import Hit
from lianxin.duty import machine
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.pool import exams
from lianxin.pool.models import ExamItem
from lianxin.regional.ordering import places, service
from lianxin.regional.reading.models import RANKS, Item, Reading
from lianxin.standards.text import T, Text

PRIORITIES: dict[str, Text] = {
    "routine": T("常规", "Routine"),
    "urgent": T("加急", "Urgent"),
    "emergency": T("急诊", "Emergency"),
}
assert set(PRIORITIES) == set(RANKS)


@dataclass
class Line:
    """An item on the request as it is drawn: where it is done, what it warns of, what may stand for it."""

    item: Item
    able: list[Institution]
    performer: Institution
    reads: Institution
    hit: Hit | None = None
    content: Content | None = None
    under_way: Reading | None = None
    warnings: list[Text] = field(default_factory=list)
    use: bool = False
    why: str = ""
    words: str = ""
    error: Text | None = None
    picked: bool = False


def lines(
    scope: Scope, person: Person, codes: list[str], typed: Mapping[str, Any], errors: Mapping[str, Text]
) -> list[Line]:
    """The chosen items with everything beside them; codes there are not are left out."""
    found = {i.code: i for i in Item.objects.filter(code__in=codes, active=True)}
    items = [found[c] for c in dict.fromkeys(codes) if c in found][: service.MOST]
    if not items or scope.institution_id is None:
        return []
    own = Institution.objects.select_related("parent").get(pk=scope.institution_id)
    able = places.candidates(own, items)
    hits = {h.wanted.code: h for h in service.hits_for(scope, person.pk, items)}
    said = results.content(scope, [h.ref for h in hits.values()])
    twice = service.open_orders(person.pk, items)
    known = {e.code: e for e in ExamItem.objects.filter(code__in=[i.code for i in items])}
    made = []
    for item in items:
        who = next(
            (i for i in able[item.code] if str(i.pk) == typed.get(f"at-{item.code}")), able[item.code][0]
        )
        hit = hits.get(item.group) if item.group else None
        line = Line(item, able[item.code], who, places.centre_for(who), hit, under_way=twice.get(item.code))
        line.warnings = _warnings(person.pk, known.get(item.code))
        if hit is not None:
            line.content = said.get(hit.ref)
            choice = typed.get(f"hit-{hit.pk}")
            line.picked = choice in ("use", "repeat")
            line.use = choice == "use"
            line.why, line.words = (
                str(typed.get(f"why-{hit.pk}") or ""),
                str(typed.get(f"words-{hit.pk}") or ""),
            )
            line.error = errors.get(f"hit-{hit.pk}")
        made.append(line)
    return made


def _warnings(person_id: int, exam: ExamItem | None) -> list[Text]:
    """Contrast and preparation as far as the pool's catalogue knows the examination."""
    if exam is None:
        return []
    said: list[Text] = []
    if exam.contrast:
        said.append(
            T("使用造影剂：核对过敏史与肾功能。", "Uses contrast: check allergies and kidney function.")
        )
        missing = exams.missing(person_id, [exam])
        said += [missing] if missing is not None else []
    if exam.preparation:
        said.append(Text(exam.preparation, exam.preparation_en))
    return said


def reasons() -> list[shipped.Reason]:
    """Why a result is not used, in the code set's order."""
    return list(shipped.reasons().values())


def state_of(work: Reading) -> Text:
    """Where a piece of work stands, in words."""
    return machine.get(work.case.kind).state(work.case.state).label


def items_text(work: Reading) -> Text:
    """What was ordered, in a line (``ordered`` prefetched with its items)."""
    labels = [o.item.label for o in work.ordered.all() if o.active]
    return T("、".join(t.zh for t in labels), ", ".join(t.en for t in labels))
