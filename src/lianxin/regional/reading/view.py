"""What pages show of reading work: the report as others read it, who may see which draft, the person's earlier studies.

Blindness: before a report goes out, only its author, who approves it, a second reader whose own report is complete and the arbiter see
it; anybody else at the centre might yet be the second reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.network.models import Practitioner
from lianxin.record import timeline
from lianxin.regional.reading import compare, reports
from lianxin.regional.reading.effects import items_text
from lianxin.regional.reading.models import SEATS, Entry, Reading, Report, Review, Template
from lianxin.standards.text import T, Text

PRIORS = 12
POSITIVE = {
    True: T("阳性", "Positive"),
    False: T("阴性", "Negative"),
    None: T("未标注", "Not marked"),
}


@dataclass
class Shown:
    """A report as a page shows it; ``changes`` compares both parts with the version before (findings, conclusion)."""

    report: Report
    structured: list[tuple[Text, str]] = field(default_factory=list)
    changes: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def signers(self) -> list[Practitioner]:
        """Who wrote it and who approved it."""
        return [p for p in (self.report.practitioner, self.report.approver) if p is not None]

    @property
    def positive(self) -> Text:
        """Positive, negative, or not marked, in words."""
        return POSITIVE[self.report.positive]

    @property
    def seat(self) -> Text:
        """Which reading it is."""
        return SEATS[self.report.seat]


def show(report: Report, before: Report | None = None) -> Shown:
    """A report with its fields in words and, when ``before`` is given, what changed since."""
    changed = {}
    if before is not None:
        changed = {
            name: compare.changes(getattr(before, name), getattr(report, name)) for name in ("findings", "conclusion")
        }  # fmt: skip
    return Shown(report, fields_in_words(report), changed)


def fields_in_words(report: Report) -> list[tuple[Text, str]]:
    """The structured fields with their labels and units, in the template's order."""
    if not report.structured:
        return []
    template = Template.objects.filter(code=report.template).order_by("pk").first()
    labels = {f["name"]: f for f in template.fields} if template else {}
    order = [*labels, *(n for n in report.structured if n not in labels)]
    out = []
    for name in order:
        if name not in report.structured:
            continue
        spec = labels.get(name, {})
        value = report.structured[name]
        words = str(T("是", "Yes") if value else T("否", "No")) if isinstance(value, bool) else f"{value} {spec.get('unit', '')}".strip()  # fmt: skip
        out.append((T(spec.get("label", name), spec.get("label_en") or spec.get("label", name)), words))
    return out


def report_of(reading: Reading) -> dict[str, Any] | None:
    """What ``reading/_report.html`` needs: the report in force, what is ordered, and every version that went out with what changed.

    None before anything went out. The caller has checked that its reader may see the work, and audits.
    """
    out = reports.outgoing(reading)
    if not out:
        return None
    shown = [show(report, out[n - 1] if n else None) for n, report in enumerate(out)]
    return {"reading": reading, "now": shown[-1], "items": items_text(reading), "versions": list(reversed(shown)) if len(shown) > 1 else []}  # fmt: skip


def may_see(report: Report, reading: Reading, scope: Scope, seats: list[Entry]) -> bool:
    """Whether a report that has not gone out may be shown to somebody of the centre (see above)."""
    me = scope.account_id or 0
    if report.account_id == me or (report.approver_id and report.approver_id == scope.practitioner_id):
        return True
    mine = {e.seat for e in seats if e.account_id == me and e.state == "claimed"}
    if "approve" in mine and report.seat == "first":
        return True
    if "arbitrate" in mine:
        return report.state == "signed"
    own = _rows(reading).filter(
        seat="second", account_id=me, completed_at__isnull=False, state__in=("draft", "signed")
    )
    return report.seat == "first" and report.state == "signed" and own.exists()


def _rows(reading: Reading) -> Any:
    return Report.objects.unscoped("the work was reached within the scope").filter(reading=reading)


def compared(reading: Reading, scope: Scope, seats: list[Entry]) -> list[Shown]:
    """First and second reading side by side, when both may be seen; [] before."""
    both = list(
        _rows(reading)
        .filter(seat__in=("first", "second"), reason="")
        .exclude(state="dropped")
        .select_related("practitioner", "approver")
        .order_by("seat", "-version")
    )
    first = next((r for r in both if r.seat == "first" and r.state == "signed"), None)
    second = next((r for r in both if r.seat == "second"), None)
    if first is None or second is None:
        return []
    if reading.issued_at is None and not (
        may_see(first, reading, scope, seats) and may_see(second, reading, scope, seats)
    ):
        return []
    return [show(first), show(second)]


def review_of(reading: Reading) -> Review | None:
    """How the two readings were scored and decided."""
    found: Review | None = (
        Review.objects.unscoped("the work was reached within the scope").filter(pk=reading.pk).first()
    )
    return found


@dataclass
class Prior:
    """An earlier study: ours with its report, or a report of another system with its address in the record."""

    at: Any
    title: str
    where: str
    same: bool
    number: str = ""
    conclusion: str = ""
    findings: str = ""
    ref: str = ""


def priors(scope: Scope, reading: Reading) -> list[Prior]:
    """What was examined before, of the same kind first: the person's earlier readings, then reports of other systems in the record."""
    rows = (
        Reading.objects.within(scope)
        .filter(person_id=reading.person_id, issued_at__isnull=False)
        .exclude(pk=reading.pk)
        .select_related("case", "centre_of", "performer")
        .order_by("-issued_at")[:PRIORS]
    )
    out, ours = [], {f"DiagnosticReport/{reading.case.number}"}
    for earlier in rows:
        report = reports.issued(earlier)
        ours.add(f"DiagnosticReport/{earlier.case.number}")
        out.append(
            Prior(
                earlier.acquired_at or earlier.ordered_at, str(items_text(earlier)), earlier.performer.short, earlier.modality == reading.modality,
                earlier.case.number, report.conclusion if report else "", report.findings if report else "",
            )
        )  # fmt: skip
    if relationships.sees(scope, reading.person_id):
        for entry in timeline.timeline(scope, reading.person_id, types=["DiagnosticReport"], limit=PRIORS):
            if entry.ref not in ours:
                out.append(Prior(entry.date, entry.title, entry.institution or "", False, ref=entry.ref, conclusion=entry.summary))  # fmt: skip
    out.sort(key=lambda p: (not p.same, -(p.at.timestamp() if p.at else 0)))
    return out[: PRIORS * 2]
