"""The parts of a person's page: what each tab shows, worked out from record, ledger, index and audit. No writes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.urls import reverse

from lianxin.access import break_glass, relationships, seal
from lianxin.access import consent as consents
from lianxin.access.models import Account, AuditEvent, Client
from lianxin.access.scope import Scope
from lianxin.clinical.referral import pages_view, service
from lianxin.clinical.referral.models import Followup
from lianxin.duty.models import Duty
from lianxin.index import registry
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.network.models import Institution
from lianxin.portal import lines, words
from lianxin.record import timeline
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KINDS: dict[str, tuple[Text, str]] = {
    "Encounter": (T("就诊", "Visits"), "hospital"),
    "Condition": (T("诊断", "Diagnoses"), "clipboard2-pulse"),
    "Observation": (T("结果", "Results"), "graph-up"),
    "DiagnosticReport": (T("报告", "Reports"), "file-earmark-medical"),
    "MedicationRequest": (T("处方", "Prescriptions"), "capsule"),
    "Procedure": (T("操作", "Procedures"), "bandaid"),
    "Immunization": (T("接种", "Vaccinations"), "shield-plus"),
    "Composition": (T("文书", "Documents"), "file-text"),
    "ServiceRequest": (T("转诊与申请", "Requests"), "send"),
    "Appointment": (T("预约", "Bookings"), "calendar-check"),
}
READABLE = frozenset(
    {"Composition", "DocumentReference", "DiagnosticReport", "Encounter", "Observation", "Condition", "MedicationRequest",
     "Procedure", "Immunization", "AllergyIntolerance", "CarePlan", "Communication"}
)  # fmt: skip
FLAGS = {
    "H": "high",
    "HH": "high",
    "HU": "high",
    "L": "low",
    "LL": "low",
    "LU": "low",
    "A": "high",
    "AA": "high",
}
RELATIONS = {
    "home": T("户籍所属、建档机构", "Home institution"),
    "contract": T("家庭医生签约", "Family-doctor contract"),
    "encounter": T("就诊", "Visit"),
    "duty": T("转诊等责任", "Open duty"),
    "registration": T("本机构登记过", "Registered there"),
    "break_glass": T("紧急查阅", "Break-glass"),
}
ACTIONS = {
    "read": T("查看", "looked at"),
    "search": T("查找", "searched"),
    "create": T("写入", "wrote"),
    "update": T("修改", "changed"),
    "delete": T("删除", "deleted"),
    "export": T("导出", "exported"),
    "print": T("打印", "printed"),
    "break_glass": T("紧急查阅", "broke the glass"),
    "deny": T("被拒绝", "was refused"),
}
WHATS = (
    ("record overview", T("病历概览", "the overview")),
    ("record timeline", T("时间线", "the timeline")),
    ("record results", T("结果", "results")),
    ("record", T("病历", "the record")),
    ("summary", T("病历摘要", "the summary")),
    ("timeline", T("时间线", "the timeline")),
    ("series", T("结果趋势", "a trend")),
    ("referral", T("转诊", "a referral")),
    ("followup", T("随访", "a follow-up")),
    ("registration", T("身份登记", "a registration")),
    ("consent", T("知情同意", "a consent")),
    ("check-in", T("登记就诊", "a check-in")),
    ("person", T("打开病历", "the record page")),
    ("break-glass", T("紧急查阅", "a break-glass opening")),
    ("identity compared", T("身份比对", "identities, side by side")),
    ("identity", T("身份页", "the identity page")),
    ("review", T("匹配复核", "a matching review")),
    ("merge", T("合并", "a merge")),
    ("unmerge", T("撤销合并", "a merge undone")),
    ("moved", T("登记改属", "a registration's person")),
    ("split", T("登记拆出", "registrations split off")),
    ("apart", T("确认不是同一人", "two people told apart")),
    ("undo", T("撤销身份变更", "an identity change undone")),
)
LINK_WORDS = {
    "new": T("首次建档", "First registration"),
    "created": T("首次建档", "First registration"),
    "linked": T("身份信息一致，自动关联", "Identity data agree, linked"),
    "same_source": T("同一系统再次登记", "Same system again"),
    "register": T("首次建档", "First registration"),
    "link": T("身份信息一致，自动关联", "Identity data agree, linked"),
    "merge": T("人工确认合并", "Merged by a person"),
    "move": T("人工调整归属", "Moved by a person"),
    "merged": T("人工确认合并", "Merged by a person"),
    "moved": T("人工调整归属", "Moved by a person"),
    "split": T("人工拆出", "Split off by a person"),
    "unmerged": T("撤销合并", "Merge undone"),
    "review": T("待人工核对", "Under review"),
}
LOOKS = 400
SITTING = dt.timedelta(minutes=30)
SERIES_SHOWN = 24


def entry(line: timeline.Entry, number: str) -> dict[str, Any]:
    """A timeline line with its icon, words and address."""
    rtype, _, rid = line.ref.partition("/")
    known = KINDS.get(rtype)
    url = reverse("portal:person_document", args=[number, rtype, rid]) if rtype in READABLE else ""
    if rtype == "ServiceRequest":
        url = lines.address_of(rid) or url
    return {
        "date": line.date,
        "kind": rtype,
        "kind_label": line.label,
        "icon": known[1] if known else "dot",
        "title": line.title,
        "institution": line.institution,
        "summary": line.summary,
        "url": url,
    }


def overview(summary: timeline.Summary) -> dict[str, Any]:
    """Problems, medicines and latest results as the overview's tiles."""
    return {
        "problems": [
            {
                "title": p["title"],
                "code": _code(p["resource"]),
                "since": p["date"],
                "where": p["institution"],
                "active": True,
            }
            for p in summary.problems
        ],
        "medicines": [
            {
                "title": m["title"],
                "dose": m.get("dose", ""),
                "since": m["date"],
                "where": m["institution"],
                "active": True,
            }
            for m in summary.medicines
        ],
        "results": [
            {
                **_split(r["value"]),
                "title": r["title"],
                "date": r["date"],
                "where": r["institution"],
                "flag": _flag(r, summary),
            }
            for r in summary.results
        ],
    }


def _code(resource: dict[str, Any]) -> str:
    codings = (resource.get("code") or {}).get("coding") or [{}]
    return str(codings[0].get("code", ""))


def _split(value: str) -> dict[str, str]:
    number, _, unit = value.partition(" ")
    return {"value": number, "unit": unit} if number[:1].isdigit() else {"value": value, "unit": ""}


def _flag(result: dict[str, Any], summary: timeline.Summary) -> str:
    if result.get("flag"):
        return FLAGS.get(result["flag"], "")
    points = [summary.series(code)[-1:] for code in result.get("codes") or [result["code"]]]
    return next((f for found in points for p in found if (f := _against(p.value, p.low, p.high))), "")


def _against(value: float, low: float | None, high: float | None) -> str:
    if high is not None and value > high:
        return "high"
    return "low" if low is not None and value < low else ""


def trends(scope: Scope, person: Person, summary: timeline.Summary) -> list[dict[str, Any]]:
    """One group per measured thing: chart data with its normal band, a table, and the trend in words."""
    groups = []
    for number, result in enumerate(summary.results[:SERIES_SHOWN]):
        parts = [(code, summary.series(code)) for code in result.get("codes") or [result["code"]]]
        parts = [(code, points) for code, points in parts if points]
        main = parts[0][1] if parts else []
        groups.append(
            {
                "id": f"series-{number}",
                "title": result["title"],
                **{"latest" if k == "value" else k: v for k, v in _split(result["value"]).items()},
                "words": _trend_words(main),
                "drawable": len(main) > 1,
                "data": {
                    "unit": main[0].unit if main else "",
                    "low": next((p.low for p in reversed(main) if p.low is not None), None),
                    "high": next((p.high for p in reversed(main) if p.high is not None), None),
                    "series": [
                        {
                            "name": _part_name(code, result["title"]),
                            "points": [
                                {"t": p.date.astimezone(clock.ZONE).isoformat(), "v": p.value} for p in points
                            ],
                        }
                        for code, points in parts
                    ],
                },
                "rows": _rows(parts)
                or [
                    {
                        "date": result["date"],
                        "value": result["value"],
                        "unit": "",
                        "where": result["institution"],
                    }
                ],
                "where": result["institution"],
            }
        )
    return groups


PART_NAMES = {"8480-6": T("收缩压", "Systolic"), "8462-4": T("舒张压", "Diastolic")}


def _part_name(code: str, title: str) -> str:
    return str(PART_NAMES.get(code, title))


def _rows(parts: list[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
    """Newest first; the components of one reading stand on one line."""
    lines: dict[tuple[Any, str], dict[str, Any]] = {}
    for _, points in parts:
        for p in points:
            line = lines.setdefault(
                (p.date, p.ref),
                {"date": p.date, "values": [], "unit": p.unit, "range": "", "flag": "", "where": ""},
            )
            line["values"].append(f"{p.value:g}")
            line["flag"] = line["flag"] or _against(p.value, p.low, p.high)
            if p.low is not None or p.high is not None:
                line["range"] = f"{p.low if p.low is not None else ''}–{p.high if p.high is not None else ''}"
    shown = sorted(lines.values(), key=lambda line: line["date"], reverse=True)[:60]
    return [{**line, "value": "/".join(line["values"])} for line in shown]


def _trend_words(points: list[Any]) -> Text:
    """The chart in a sentence: how many, from when, up or down, how often outside the band."""
    if len(points) < 2:
        return T("仅一次结果", "One result only")
    first = points[0]
    third = max(len(points) // 3, 1)  # thirds, so that one odd reading does not turn the word
    early, late = (sum(p.value for p in part) / len(part) for part in (points[:third], points[-third:]))
    change = late - early
    steady = abs(change) <= max(abs(early), 1e-9) * 0.05
    word = T("平稳", "steady") if steady else T("上升", "rising") if change > 0 else T("下降", "falling")
    outside = sum(bool(_against(p.value, p.low, p.high)) for p in points)
    text = T("{n} 次，{a} 起，{word}", "{n} results since {a}, {word}").format(
        n=str(len(points)), a=f"{first.date.astimezone(clock.ZONE):%Y-%m-%d}", word=word
    )
    if not outside:
        return text
    tail = T("{t}，{k} 次超出参考范围", "{t}, {k} outside the range")
    return tail.format(t=text, k=str(outside))


def duties(scope: Scope, person: Person) -> list[dict[str, Any]]:
    """Open duties of anybody about this person."""
    rows = (
        Duty.objects.within(scope)
        .filter(person=person, ended="")
        .select_related("case", "owner_institution")
        .order_by("due_at")
    )
    out = []
    for d in rows[:20]:
        out.append(
            {
                "label": d.label,
                "owner": pages_view.named(d.owner_institution, True),
                "due_at": d.due_at,
                "paused": d.paused_since is not None,
                "url": lines.address(d.case.kind, d.case.number),
            }
        )
    return out


def referrals(scope: Scope, person: Person) -> list[Any]:
    """The person's referrals with state and direction in words."""
    found = service.referrals_of(scope, person)
    for r in found:
        r.state_label = pages_view.state_label(r.case)  # type: ignore[attr-defined]
        r.direction_label = pages_view.DIRECTIONS[r.direction]  # type: ignore[attr-defined]
    return found


def followups(scope: Scope, person: Person) -> list[Any]:
    """The person's follow-ups, newest first."""
    rows = Followup.objects.within(scope).filter(person=person).select_related("case", "institution")
    return list(rows.order_by("-case__opened_at")[:20])


def identity(scope: Scope, person: Person) -> dict[str, Any]:
    """Who this is, as which institutions know them, and why the index holds them for one."""
    sources = list(
        SourceRecord.objects.unscoped("the links of a person opened to the reader").filter(person=person)
        .select_related("institution").order_by("received_at")
    )  # fmt: skip
    events = {
        e.source_id: e for e in LinkEvent.objects.filter(source_id__in=[s.pk for s in sources]).order_by("at")
    }
    for source in sources:
        event = events.get(source.pk)
        why = (
            LINK_WORDS.get(event.kind, T(event.kind, event.kind))
            if event
            else T("同一登记", "The same registration")
        )
        source.why = f"{why}{('：' + event.reason) if event and event.reason else ''}"
        local = source.local_id.rpartition(":")[2]
        source.local_masked = local if len(local) < 12 else local[:4] + "…" + local[-4:]
    number = seal.unseal(person.id_sealed) if person.id_sealed else ""
    live = list(
        {(r.institution_id, r.kind): r for r in reversed(relationships.of_person(person.pk))}.values()
    )
    for row in live:
        row.kind_label = RELATIONS.get(row.kind, Text(row.kind, row.kind))  # type: ignore[attr-defined]
    return {"sources": sources, "id_masked": registry.mask_id(number), "relationships": live}


def looks(person: Person) -> list[dict[str, Any]]:
    """Who looked at or changed this record, newest first, in words; repeated looks of one sitting stand once."""
    events = list(AuditEvent.objects.filter(person_id=person.pk).order_by("-at", "-id")[:LOOKS])
    names = dict(
        Account.objects.filter(pk__in={e.account_id for e in events if e.account_id}).values_list(
            "pk", "name"
        )
    )
    systems = dict(
        Client.objects.filter(pk__in={e.client_id for e in events if e.client_id}).values_list("pk", "name")
    )
    places = {
        i.pk: i
        for i in Institution.objects.filter(pk__in={e.institution_id for e in events if e.institution_id})
    }
    out: list[dict[str, Any]] = []
    for e in events:
        line: dict[str, Any] = {
            "at": e.at,
            "who": names.get(e.account_id or 0) or systems.get(e.client_id or 0) or str(T("系统", "System")),
            "where": str(pages_view.named(places.get(e.institution_id or 0), True)),
            "whats": [_what(e.what)],
            "outcome": e.outcome,
            "action": e.action,
        }
        last = out[-1] if out else None
        if (
            last
            and all(last[k] == line[k] for k in ("who", "where", "action", "outcome"))
            and last["at"] - e.at < SITTING
        ):
            if line["whats"][0] not in last["whats"]:
                last["whats"].append(line["whats"][0])
            continue
        out.append(line)
    comma = str(T("、", ", "))
    return [
        line | {"words": f"{ACTIONS.get(line['action'], line['action'])} {comma.join(line['whats'][:4])}"}
        for line in out
    ]


def _what(what: str) -> str:
    for start, label in WHATS:
        if what == start or what.startswith(start + " "):
            number = what.removeprefix(start).strip()
            return f"{label} {number}".strip() if start in ("referral", "followup") else str(label)
    return what


def consents_of(person: Person) -> dict[str, Any]:
    """The person's consents and the kinds that may be recorded."""
    found = consents.of_person(person.pk)
    for row in found:
        row.kind_label = consents.KINDS.get(row.kind, row.kind)  # type: ignore[attr-defined]
    known = {r.institution_id: r.institution for r in relationships.of_person(person.pk)}
    return {
        "consents": [row for row in found if row.decision == "permit"],
        "refusals": [row for row in found if row.decision == "deny"],
        "consent_kinds": list(consents.KINDS.items()),
        "known_institutions": sorted(known.values(), key=lambda i: i.code),
    }


def alerts(person: Person) -> list[str]:
    """What must not be overlooked about the person beside allergies."""
    found = []
    if person.deceased_on:
        found.append(
            str(T("已故 {day}", "Died {day}").format(day=words.moment(person.deceased_on, with_time=False)))
        )
    return found


def open_glass(scope: Scope, person: Person) -> Any:
    """The emergency opening by which this reader sees the record now, if it is by that alone."""
    now = clock.now()
    kinds = {
        r.kind
        for r in relationships.of_person(person.pk)
        if r.institution_id in scope.institution_ids and r.kind != "break_glass"
    }
    if kinds:
        return None
    mine = (g for g in break_glass.of_person(person.pk) if g.account_id == scope.account_id and g.until > now)
    return next(mine, None)
