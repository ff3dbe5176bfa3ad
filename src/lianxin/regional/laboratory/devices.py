"""Results from devices: whose they are is decided by the bar code alone; what fits nothing that waits here is kept apart, never attached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.regional.laboratory import catalogue, errors, quality, results, service
from lianxin.regional.laboratory.models import Analyser, Control, Result, Specimen, Stray, Work
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

WHY: dict[str, Text] = {
    "unknown": T("条码未知", "Unknown bar code"),
    "not_here": T("标本未接收", "The tube was not received"),
    "over": T("标本已拒收、取消或处置", "The tube was refused, cancelled or disposed of"),
    "not_ordered": T("未申请该项目", "Not ordered"),
    "unreadable": T("结果无法识别", "The result cannot be read"),
    "person": T("患者信息不符", "Another patient"),
}
_LIVE = ("received", "in_analysis", "resulted")
_LATE = ("verified", "issued", "acknowledged")


def digest(*parts: Any) -> str:
    """A key for what was sent, so that the same again is known again."""
    return hashlib.sha256(
        json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str).encode()
    ).hexdigest()[:40]


def analyte_of(analyser: Analyser | None, code: str) -> str:
    """Our analyte of a device's test code, of a LOINC code, or of our own; "" when there is none."""
    own = (analyser.tests if analyser else {}).get(code)
    known = catalogue.load()
    return (
        own if own in known.analytes else known.by_loinc.get(code) or (code if code in known.analytes else "")
    )


def take(
    institution_id: int, analyser: Analyser | None, sample: str, sent: Sequence[Mapping[str, Any]], source: str, person_number: str = ""
) -> dict[str, list[str]]:  # fmt: skip
    """Take what a device sent for one bar code: ``{"taken": analytes, "late": analytes, "again": …, "stray": reasons}``.

    ``sent`` rows hold the device's ``test`` code, ``raw``, ``unit``, ``flags``, ``at``. A control's name ("QC:GLU:1") goes to quality
    control. Everything is committed when this returns.
    """
    done: dict[str, list[str]] = {"taken": [], "late": [], "again": [], "stray": []}
    if sample.upper().startswith("QC:"):
        return _controls(institution_id, sample, sent, done)
    tube = (
        Specimen.objects.unscoped("a device names its tube by the bar code alone").select_related("reading__person", "reading__case")
        .filter(number=sample.strip().upper(), centre_of_id=institution_id).first()
    )  # fmt: skip
    if tube is None:
        return _stray(institution_id, analyser, sample, "unknown", sent, done)
    if person_number and person_number not in (tube.reading.person.number, tube.reading.person.card_number):
        return _stray(institution_id, analyser, sample, "person", sent, done)
    if tube.state in ("planned", "collected", "packed", "sent"):
        return _stray(institution_id, analyser, sample, "not_here", sent, done)
    if tube.state not in ("received", "stored"):
        return _stray(institution_id, analyser, sample, "over", sent, done)
    works = list(
        Work.objects.unscoped("the work on the tube").select_related("reading__case", "reading__person").filter(specimen=tube).order_by("pk")
    )  # fmt: skip
    by_work: dict[int, list[dict[str, Any]]] = {}
    wanted = {
        w.pk: set(results.expected(w.reading)) for w in works if w.reading.case.state in (*_LIVE, *_LATE)
    }
    for row in sent:
        code = analyte_of(analyser, str(row.get("test", "")))
        fits = [pk for pk, codes in wanted.items() if code in codes]
        if not fits:
            _stray(institution_id, analyser, sample, "not_ordered", [row], done)
            continue
        made = {
            "analyte": code, "raw": str(row.get("raw", "")), "unit": str(row.get("unit", "")), "flags": _flags(str(row.get("flags", ""))),
            "device": analyser.code if analyser else "", "source": source, "measured_at": row.get("at", ""),
            "key": digest(analyser.pk if analyser else 0, sample, code, row.get("raw"), row.get("at"), row.get("unit")),
        }  # fmt: skip
        by_work.setdefault(fits[0], []).append(made)
    for work in works:
        if work.pk in by_work:
            _one_work(institution_id, analyser, sample, work, by_work[work.pk], done)
    return done


def _one_work(
    institution_id: int, analyser: Analyser | None, sample: str, work: Work, rows: list[dict[str, Any]], done: dict[str, list[str]]
) -> None:  # fmt: skip
    known = set(
        Result.objects.unscoped("what was taken already")
        .filter(reading_id=work.pk, key__in=[r["key"] for r in rows])
        .values_list("key", flat=True)
    )
    new = [r for r in rows if r["key"] not in known]
    done["again"] += [r["analyte"] for r in rows if r["key"] in known]
    seen: dict[str, dict[str, Any]] = {}
    extra: list[dict[str, Any]] = []
    for row in new:  # the same test twice in one message: the later is the re-run
        if row["analyte"] in seen:
            extra.append(seen[row["analyte"]])
        seen[row["analyte"]] = row
    if not new:
        return
    for batch in (extra, list(seen.values())) if extra else (list(seen.values()),):
        _hand_over(institution_id, analyser, sample, work, batch, done)


def _hand_over(
    institution_id: int, analyser: Analyser | None, sample: str, work: Work, rows: list[dict[str, Any]], done: dict[str, list[str]]
) -> None:  # fmt: skip
    case = work.reading.case
    case.refresh_from_db()
    if case.state in _LATE:
        done["late"] += late(work, rows)
        return
    try:
        service.measured(case, rows, f"device:{work.pk}:{digest([r['key'] for r in rows])}")
        done["taken"] += [r["analyte"] for r in rows]
    except Refused as refused:
        good = [r for r in rows if r["analyte"] not in refused.errors]
        bad = [r for r in rows if r["analyte"] in refused.errors]
        _stray(
            institution_id,
            analyser,
            sample,
            "unreadable",
            [{**r, "why": refused.errors[r["analyte"]].zh} for r in bad] or rows,
            done,
        )
        if good and bad:
            _hand_over(institution_id, analyser, sample, work, good, done)
    except MoveError:
        case.refresh_from_db()
        if case.state in _LATE:
            done["late"] += late(work, rows)
        else:
            _stray(institution_id, analyser, sample, "over", rows, done)


def _flags(text: str) -> str:
    """What a device says beside the value, without plain high, low and normal (those we judge ourselves)."""
    parts = [p for p in text.replace("~", "^").replace("&", "^").split("^") if p.strip()]
    return " ".join(p for p in parts if p.upper() not in ("N", "H", "L", "HH", "LL", "A"))[:40]


@transaction.atomic
def late(work: Work, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Results for a report that is verified or went out: kept as attempts beside the one in force; a person decides."""
    reading = Reading.objects.unscoped("the work's own").select_for_update(of=("self",), no_key=True).select_related(
        "person", "laboratory__specimen"
    ).get(pk=work.pk)  # fmt: skip
    taken = results.take(reading, rows, Scope.system("a device measured again"), clock.now())
    return [r.analyte for r in taken]


@transaction.atomic
def _stray(
    institution_id: int, analyser: Analyser | None, sample: str, reason: str, rows: Sequence[Mapping[str, Any]], done: dict[str, list[str]]
) -> dict[str, list[str]]:  # fmt: skip
    plain = [{k: str(v)[:80] for k, v in row.items()} for row in rows][:200]
    Stray.objects.bulk_create(
        [
            Stray(
                institution_id=institution_id, analyser=analyser, sample=sample[:40], reason=reason, payload=plain, at=clock.now(),
                key=digest(institution_id, analyser.pk if analyser else 0, sample, plain),
            )
        ],
        ignore_conflicts=True,
    )  # fmt: skip
    done["stray"].append(reason)
    return done


@transaction.atomic
def _controls(institution_id: int, sample: str, sent: Sequence[Mapping[str, Any]], done: dict[str, list[str]]) -> dict[str, list[str]]:  # fmt: skip
    """A control measured by a device: "QC:<analyte>:<level>"; unknown controls are strays."""
    _, _, rest = sample.upper().partition(":")
    analyte, _, level = rest.partition(":")
    control = (
        Control.objects.select_for_update(no_key=True)
        .filter(institution_id=institution_id, analyte=analyte, level=int(level) if level in ("1", "2", "3") else 0, closed_at__isnull=True)
        .first()
    )  # fmt: skip
    for row in sent:
        value = catalogue.number(row.get("raw"))
        if control is None or value is None:
            _stray(institution_id, None, sample, "unknown" if control is None else "unreadable", [row], done)
            continue
        key = digest(control.pk, str(value), row.get("at"))
        if quality.Measure.objects.filter(key=key).exists():
            done["again"].append(analyte)
        else:
            quality.record(
                control, value, str(row.get("at") or clock.now().strftime("%Y%m%d%H%M"))[:40], key, None
            )
            done["taken"].append(analyte)
    return done


def worklist(institution_id: int, analyser: Analyser | None, sample: str) -> list[str]:
    """The device's own test codes still wanted for a bar code (a host query); [] when nothing is."""
    tube = Specimen.objects.unscoped("a device names its tube by the bar code alone").filter(
        number=sample.strip().upper(), centre_of_id=institution_id, state__in=("received", "stored")
    ).first()  # fmt: skip
    if tube is None:
        return []
    codes: list[str] = []
    works = (
        Work.objects.unscoped("the work on the tube")
        .select_related("reading__case")
        .filter(specimen=tube, reading__case__state__in=_LIVE)
    )
    for work in works.order_by("pk"):
        codes += results.lacking(work.reading)
    mine = {ours: theirs for theirs, ours in (analyser.tests if analyser else {}).items()}
    return [mine[c] for c in dict.fromkeys(codes) if c in mine] if mine else list(dict.fromkeys(codes))


def words(stray: Stray) -> str:
    """What a stray result said, in a line."""
    said = []
    for row in stray.payload:
        test = row.get("test") or row.get("analyte") or ""
        why = f"（{row['why']}）" if row.get("why") else ""
        said.append(f"{test} {row.get('raw', '')} {row.get('unit', '')}".strip() + why)
    return "；".join(said)


@transaction.atomic
def close(by: Scope, stray: str, note: str) -> None:
    """Somebody looked into a stray result and says what came of it."""
    by.demand("run_laboratory")
    if not note.strip():
        raise errors.refused(T("请填写处理情况。", "Say what came of it."), "note")
    rows = Stray.objects.within(by).filter(institution_id__in=by.institution_ids, closed_at__isnull=True)
    pk = int(stray) if stray.isascii() and stray.isdigit() and len(stray) < 18 else 0
    if not rows.filter(pk=pk).update(closed_at=clock.now(), closed_by=by.account_id, note=note.strip()[:200]):
        raise NotAllowed(T("该条已处理。", "It is closed already."))
    audit.write(by, "update", what=f"stray result {pk}")
