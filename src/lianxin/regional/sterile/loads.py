"""Loads: a steriliser's cycle from loading to release. Nothing leaves before its indicators were read and passed.

Steam sterilisers with a vacuum pass the Bowie-Dick test first each day (WS 310.3-2016, 4.4.2.3). Implants wait for the biological indicator;
in an emergency the load goes out on physical and chemical indicators with a reason on record and is followed until the biological one is read
(4.4.2.4). A failed indicator, whenever it is read, takes back everything of the load (``recall``).
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.regional.sterile import policy, recall, scan
from lianxin.regional.sterile.models import INDICATORS, Load, Set, Steriliser, Turn
from lianxin.regional.sterile.scan import Scanned
from lianxin.standards import clock
from lianxin.standards.text import T


def steriliser_of(by: Scope, code: str) -> Steriliser:
    """A steriliser of the own institution; NotAllowed otherwise."""
    found = Steriliser.objects.filter(institution_id__in=by.institution_ids, code=code, active=True).first()
    if found is None:
        raise NotAllowed(T("本中心没有这台灭菌器。", "The centre has no such steriliser."))
    return found


def add_steriliser(by: Scope, form: dict[str, str]) -> Steriliser:
    """Register a steriliser of the own centre: ``code``, ``name``, ``programs`` (separated by blanks or commas), ``bowie_dick`` "1"."""
    by.demand("run_sterile")
    code, name = form.get("code", "").strip().upper(), form.get("name", "").strip()[:80]
    programs = [p[:40] for p in re.split(r"[\s,，、]+", form.get("programs", "")) if p][:20]
    faults = {}
    if not re.fullmatch(r"[A-Z0-9]{1,8}", code):
        faults["code"] = T("编号用 1 至 8 位字母数字。", "The code is 1 to 8 letters and digits.")
    if not name:
        faults["name"] = T("请填写名称。", "Give its name.")
    if not programs:
        faults["programs"] = T("请至少填写一个灭菌程序。", "Give at least one program.")
    if faults:
        raise Refused(faults)
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    made, _ = Steriliser.objects.update_or_create(
        institution_id=by.institution_id, code=code,
        defaults={"name": name, "programs": programs, "bowie_dick": form.get("bowie_dick") == "1", "active": True},
    )  # fmt: skip
    audit.write(by, "update", what=f"steriliser {code}", detail={"programs": programs})
    return made


def tested(steriliser: Steriliser, day: dt.date) -> bool:
    """Whether the steriliser passed its Bowie-Dick test that day (or needs none)."""
    if not steriliser.bowie_dick:
        return True
    rows = Load.objects.filter(steriliser=steriliser, day=day, kind="bowie_dick").order_by("-started_at")
    last = rows.first()
    return last is not None and last.state == "released"


def bowie_dick(by: Scope, steriliser: Steriliser, passed: bool, note: str, key: str) -> Load:
    """Record the day's test. A failed one stops the steriliser until one passes."""
    by.demand("run_sterile")
    now = clock.now()
    with transaction.atomic():
        found = _once(key)
        if found is not None:
            return found
        made = Load.objects.create(
            number=_number(steriliser), key=key[:120], steriliser=steriliser, institution_id=steriliser.institution_id, kind="bowie_dick",
            program="B-D", state="released" if passed else "failed", physical=True if passed else None, chemical=passed, day=clock.today(), started_at=now,
            ended_at=now, judged_at=now, judged_by=by.name[:80], by=by.name[:80], failure="" if passed else (note or "B-D 试验不合格")[:300],
        )  # fmt: skip
        audit.write(by, "create", what=f"sterile Bowie-Dick {made.number}", detail={"passed": passed})
    return made


def _once(key: str) -> Load | None:
    """The load this request made before."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 13))", [f"sterile:{key}"])
    return Load.objects.filter(key=key[:120]).first()


def _number(steriliser: Steriliser) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('sterile_load', 'id'))")
        serial = cursor.fetchone()[0]
    return f"MJ{clock.now():%Y%m%d}-{steriliser.code}-{serial}"[:32]


def start(
    by: Scope, steriliser: Steriliser, program: str, codes: Sequence[str], key: str
) -> tuple[Load, list[Scanned]]:
    """Load packed sets and start a cycle. Nothing starts without a set, or before the day's Bowie-Dick test passed."""
    by.demand("run_sterile")
    if program not in steriliser.programs:
        raise Refused({"program": T("该灭菌器没有这个程序。", "The steriliser has no such program.")})
    if not codes:
        raise Refused({"codes": T("请扫描要装载的器械包。", "Scan the sets to load.")})
    with transaction.atomic():
        made = _once(key)
        if made is None:
            if not tested(steriliser, clock.today()):
                raise NotAllowed(
                    T(
                        "今日 B-D 试验未合格，该灭菌器不能使用。",
                        "Today's Bowie-Dick test has not passed; the steriliser may not run.",
                    )
                )
            now = clock.now()
            made = Load.objects.create(
                number=_number(steriliser), steriliser=steriliser, institution_id=steriliser.institution_id, program=program,
                key=key[:120], day=clock.today(), started_at=now, by=by.name[:80],
            )  # fmt: skip
            done = scan.change(by, "load", codes, f"{key}:load", load=made.pk)
            if not done:
                answers = scan.answers(by, scan.MOVES["load"], codes, done, f"{key}:load")
                raise Refused(
                    {
                        "codes": T(
                            "；".join(f"{a.code} {a.text.zh}" for a in answers[:10]),
                            "; ".join(f"{a.code} {a.text.en}" for a in answers[:10]),
                        )
                    }
                )
            rows = Set.objects.filter(pk__in=done).select_related("type")
            Turn.objects.bulk_create(
                [
                    Turn(set=s, turn=s.turn, load=made, packed_by=s.packed_by, material=s.material, at=now)
                    for s in rows
                ]
            )
            if any(s.type.implant for s in rows):
                made.implant = True
                made.save(update_fields=["implant"])
        else:
            done = set(Set.objects.filter(load=made).values_list("pk", flat=True))
        return made, scan.answers(by, scan.MOVES["load"], codes, done, f"{key}:load")


def of(by: Scope, number: str, *, lock: bool = False) -> Load:
    """A load of the own centre; NotAllowed otherwise."""
    rows = Load.objects.filter(institution_id__in=by.institution_ids, number=number)
    found = (rows.select_for_update(no_key=True) if lock else rows.select_related("steriliser")).first()
    if found is None:
        raise NotAllowed(T("本中心没有这一灭菌批次。", "The centre has no such load."))
    return found


_READ: dict[str, bool | None] = {"pass": True, "fail": False, "": None}


@transaction.atomic
def judge(by: Scope, number: str, form: dict[str, str], key: str) -> Load:
    """Read the indicators and release, wait, release in an emergency, or fail the load.

    ``form``: physical, chemical, biological each "pass", "fail" or "" (not read yet); ``temperature`` °C, ``minutes``, ``pressure`` kPa of the
    physical record; ``emergency`` reason of an implant's release before the biological indicator; ``failure`` what was wrong.
    """
    by.demand("run_sterile")
    load = of(by, number, lock=True)
    if load.kind == "bowie_dick":
        raise NotAllowed(T("B-D 试验没有器械可放行。", "A Bowie-Dick cycle has nothing to release."))
    read = {name: _READ.get(form.get(name, "")) for name in INDICATORS}
    for name, value in read.items():
        before = getattr(load, name)
        if before is not None and value is not None and value != before:
            raise Refused(
                {
                    name: T(
                        "{i}已判读，不能改判；请按不合格召回处理。",
                        "{i} was read already and stands; recall instead.",
                    ).format(i=INDICATORS[name])
                }
            )
        if value is not None and before is None:
            setattr(load, name, value)
            if name == "biological":
                load.biological_at = clock.now()
    load.parameters = load.parameters | _parameters(form)
    if False in (load.physical, load.chemical, load.biological):
        return _fail(by, load, form.get("failure", ""), key)
    if load.state == "failed":
        raise NotAllowed(T("该批次已判不合格。", "The load has failed already."))
    if load.state in ("running", "waiting"):
        _release_or_wait(by, load, form)
    elif load.state == "emergency" and load.biological:
        load.state = "released"
    load.save()
    audit.write(
        by,
        "update",
        what=f"sterile load {number}",
        detail={"state": load.state, **{k: v for k, v in read.items() if v is not None}},
    )
    return load


def _parameters(form: dict[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, low, high in (("temperature", 20, 180), ("minutes", 0.5, 600), ("pressure", 0, 500)):
        text = form.get(name, "").strip()
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise Refused(
                {
                    name: T("请填写 {a} 至 {b} 之间的数字。", "Give a number from {a} to {b}.").format(
                        a=str(low), b=str(high)
                    )
                }
            )
        found[name] = value
    return found


def _release_or_wait(by: Scope, load: Load, form: dict[str, str]) -> None:
    missing = [INDICATORS[n] for n in ("physical", "chemical") if getattr(load, n) is None]
    reason = form.get("emergency", "").strip()[:300]
    load.ended_at = load.ended_at or clock.now()
    if missing or (load.implant and load.biological is None and not reason):
        load.state = "waiting"
        return
    if load.implant and load.biological is None:
        load.state, load.emergency_reason = "emergency", reason
    else:
        load.state = "released"
    load.judged_at, load.judged_by = clock.now(), by.name[:80]
    load.save()
    release(by, load)


_RELEASE = """
WITH gone AS (
  UPDATE sterile_set s SET state = 'released', changed_at = %(now)s,
         expires_on = %(day)s::date + (%(days)s::jsonb ->> s.material)::int
   WHERE s.load_id = %(load)s AND s.state = 'sterilised' RETURNING s.id, s.turn, s.code)
INSERT INTO sterile_event (set_id, turn, move, from_state, to_state, institution_id, load_id, note, by, account_id, at, key)
SELECT id, turn, 'release', 'sterilised', 'released', %(institution)s, %(load)s, %(note)s, %(by)s, %(account)s, %(now)s, 'release:' || %(load)s || ':' || code
  FROM gone"""


def release(by: Scope, load: Load) -> None:
    """Let every set of the load go, each with the expiry of its packing material, in one statement."""
    table = policy.SETTINGS.value("materials", load.institution_id)
    with connection.cursor() as cursor:
        cursor.execute(
            _RELEASE,
            {"now": clock.now(), "day": load.day, "days": json.dumps({c: int(m["days"]) for c, m in table.items()}), "load": load.pk,
             "institution": load.institution_id, "note": load.emergency_reason, "by": by.name[:80], "account": by.account_id},
        )  # fmt: skip


def _fail(by: Scope, load: Load, why: str, key: str) -> Load:
    """A failed indicator: the load is failed, what is still here goes back to washing, what left is recalled, patients are contacted."""
    if load.state == "failed":
        return load
    left = load.state in ("released", "emergency")
    wrong = [INDICATORS[n] for n in INDICATORS if getattr(load, n) is False]
    said = why.strip() or "、".join(w.zh for w in wrong) + "不合格"
    load.state, load.failure = "failed", said[:300]
    load.ended_at = load.ended_at or clock.now()
    load.judged_at, load.judged_by = load.judged_at or clock.now(), load.judged_by or by.name[:80]
    load.save()
    audit.write(by, "update", what=f"sterile load {load.number}", detail={"state": "failed"})
    if left:
        recall.open_recall(by, "load", said, f"fail:{load.pk}", load=load)
    else:
        codes = list(Set.objects.filter(load=load, state="sterilised").values_list("code", flat=True))
        scan.change(by, "unload", codes, f"{key}:unload", note=said[:200])
    return load
