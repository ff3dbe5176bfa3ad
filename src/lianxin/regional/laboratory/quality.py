"""Control measurements: taking them, the gate they hold over verification, corrective actions, a month in figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed
from lianxin.regional.laboratory import calc, catalogue, errors, policy, westgard
from lianxin.regional.laboratory.models import Control, Corrective, Measure, Result
from lianxin.standards import clock
from lianxin.standards.text import T, Text

CAUSES: dict[str, Text] = {
    "material": T("质控品", "Control material"),
    "reagent": T("试剂", "Reagent"),
    "calibration": T("校准", "Calibration"),
    "device": T("仪器", "Device"),
    "operation": T("操作", "Operation"),
    "random": T("随机误差", "Random error"),
}
_BACK = 12
"""Measurements looked back at: ten for 10-x."""


@transaction.atomic
def measure(by: Scope, control_id: int, raw: str, run: str, key: str) -> Measure:
    """Take a control measurement at the own laboratory; the same ``key`` again gives the first. Raises NotAllowed, Refused."""
    control = (
        Control.objects.select_for_update(no_key=True)
        .filter(pk=control_id, institution_id__in=by.institution_ids)
        .first()
    )
    if control is None:
        raise NotAllowed(T("没有这批质控品。", "There is no such control."))
    again = Measure.objects.filter(key=key).first()
    if again is not None:
        return again
    if control.closed_at is not None:
        raise errors.refused(
            T("该批号已停用，请使用现行批号。", "This lot is closed; use the current one."), "value"
        )
    value = catalogue.number(raw)
    if value is None or not 0 <= value < Decimal(10) ** 9:
        raise errors.refused(T("质控结果应为数值。", "A control result is a number."), "value")
    if by.account_id is None:
        raise errors.by_person()
    return record(control, value, run or clock.now().strftime("%Y%m%d%H%M"), key, by.account_id)


def record(control: Control, value: Decimal, run: str, key: str, account_id: int | None) -> Measure:
    """Judge a value and keep it (the control's row is locked by the caller)."""
    z = float((value - control.mean) / control.sd)
    verdict = westgard.judge(z, _before(control), _beside(control, run))
    made: Measure = Measure.objects.create(
        control=control, run=run[:40], at=clock.now(), value=value, z=z, verdict=verdict.verdict, rules=list(verdict.rules),
        account_id=account_id, key=key[:80],
    )  # fmt: skip
    return made


def _before(control: Control) -> list[float]:
    """Earlier deviations of a lot, newest first, since the last corrective action (what was put right no longer counts)."""
    out = []
    rows = Measure.objects.filter(control=control).select_related("corrective").order_by("-at", "-pk")[:_BACK]
    for row in rows:
        if hasattr(row, "corrective"):
            break
        out.append(row.z)
    return out


def _beside(control: Control, run: str) -> list[float]:
    rows = Measure.objects.filter(
        run=run, control__institution_id=control.institution_id, control__analyte=control.analyte, control__device=control.device,
    ).exclude(control=control)  # fmt: skip
    return [row.z for row in rows.order_by("-at", "-pk")[:3]]


@transaction.atomic
def correct(by: Scope, measure_id: int, cause: str, action: str) -> Corrective:
    """Record what was done about a rejected control: verification of the analyte is open again."""
    row = Measure.objects.select_for_update(of=("self",), no_key=True).filter(
        pk=measure_id, control__institution_id__in=by.institution_ids, verdict="reject"
    ).first()  # fmt: skip
    if row is None or by.account_id is None:
        raise NotAllowed(T("没有需要处理的失控记录。", "There is no such rejected run."))
    if not action.strip() or cause not in CAUSES:
        raise errors.refused(
            T("请选择原因并写明处理措施。", "Choose the cause and say what was done."), "action"
        )
    done, _ = Corrective.objects.get_or_create(
        measure=row, defaults={"cause": cause, "action": action.strip()[:300], "account_id": by.account_id, "at": clock.now()}
    )  # fmt: skip
    found: Corrective = done
    return found


def gates(institution_id: int, rows: Iterable[Result], fresh: bool = False) -> dict[str, str]:
    """What controls say of the results' analytes: "qc" the last run of a lot in use was rejected and nothing was done about it; with
    ``fresh`` also "qc_old": no accepted control within the hours that settings ask for. A computed analyte stands with its inputs."""
    wanted = {row.analyte: row.device for row in rows}
    measured = {code for code in wanted if not catalogue.analyte(code).formula}
    standing = _standing(institution_id, measured)
    since = clock.now() - dt.timedelta(hours=int(policy.value("auto.qc_hours", institution_id)))
    out: dict[str, str] = {}
    for code in measured:
        lots = [s for s in standing.get(code, ()) if not s[0] or not wanted[code] or s[0] == wanted[code]]
        if any(verdict == "reject" and not corrected for _, verdict, _, corrected in lots):
            out[code] = "qc"
        elif fresh and not catalogue.analyte(code).qualitative and not any(
            at is not None and at > since and verdict != "reject" for _, verdict, at, _ in lots
        ):  # fmt: skip
            out[code] = "qc_old"
    for code in wanted:
        formula = catalogue.analyte(code).formula
        if formula:
            worst = {out[n] for n in calc.needs(formula) if n in out}
            if worst:
                out[code] = "qc" if "qc" in worst else "qc_old"
    return out


def _standing(
    institution_id: int, codes: set[str]
) -> dict[str, list[tuple[str, str, dt.datetime | None, bool]]]:
    """The last measurement of every lot in use, by analyte: device, verdict, when, whether something was done about it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT ON (m.control_id) c.analyte, c.device, m.verdict, m.at, k.id IS NOT NULL
                 FROM laboratory_measure m JOIN laboratory_control c ON c.id = m.control_id
                 LEFT JOIN laboratory_corrective k ON k.measure_id = m.id
                WHERE c.institution_id = %s AND c.closed_at IS NULL AND c.analyte = ANY(%s)
                ORDER BY m.control_id, m.at DESC, m.id DESC""",
            [institution_id, sorted(codes)],
        )
        rows = cursor.fetchall()
    out: dict[str, list[tuple[str, str, dt.datetime | None, bool]]] = {}
    for analyte, device, verdict, at, put_right in rows:
        out.setdefault(analyte, []).append((device, verdict, at, put_right))
    return out


@transaction.atomic
def open_lot(by: Scope, given: dict[str, Any]) -> Control:
    """Put a lot into use; the lot it replaces (same analyte, level, device) is closed. Raises Refused."""
    code, low = str(given.get("analyte", "")), catalogue.number(given.get("mean"))
    sd, allowed = catalogue.number(given.get("sd")), catalogue.number(given.get("allowed"))
    lot = str(given.get("lot", "")).strip()[:40]
    stage = str(given.get("level", "1"))
    if (
        code not in catalogue.load().analytes
        or catalogue.analyte(code).formula
        or catalogue.analyte(code).qualitative
    ):
        raise errors.refused(T("请选择定量检测项目。", "Choose a measured test."), "analyte")
    if not lot:
        raise errors.refused(T("请填写批号。", "Give the lot number."), "lot")
    if low is None or sd is None or sd <= 0 or not 0 < low < Decimal(10) ** 9 or sd >= low:
        raise errors.refused(
            T("靶值与标准差应为正数，且标准差小于靶值。", "Mean and SD are positive, the SD below the mean."),
            "mean",
        )
    if stage not in ("1", "2", "3"):
        raise errors.refused(T("水平为 1–3。", "The level is 1 to 3."), "level")
    if by.institution_id is None:
        raise errors.by_person()
    now, device = clock.now(), str(given.get("device", ""))[:20]
    same = Control.objects.filter(
        institution_id=by.institution_id, analyte=code, level=int(stage), device=device
    )
    if same.filter(lot=lot).exists():
        raise errors.refused(T("该批号已登记。", "This lot is registered already."), "lot")
    same.filter(closed_at__isnull=True).update(closed_at=now)
    made: Control = Control.objects.create(
        institution_id=by.institution_id, analyte=code, level=int(stage), lot=lot, device=device, mean=low, sd=sd, allowed=allowed,
        opened_at=now, set_by=by.account_id,
    )  # fmt: skip
    audit.write(by, "create", what=f"control {code} L{stage} {lot}")
    return made


def month(control: Control, start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    """A lot's figures of a period: what was measured in control (rejected runs that were put right are left out, as WS/T 641 has it)."""
    rows = list(Measure.objects.filter(control=control, at__gte=start, at__lt=end).order_by("at", "pk"))
    kept = [float(r.value) for r in rows if r.verdict != "reject"]
    allowed = float(control.allowed) if control.allowed is not None else None
    return {
        **westgard.summary(kept, float(control.mean), allowed),
        "all": len(rows), "warned": sum(r.verdict == "warn" for r in rows), "rejected": sum(r.verdict == "reject" for r in rows),
    }  # fmt: skip
