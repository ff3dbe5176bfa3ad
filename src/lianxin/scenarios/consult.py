"""Teleconsultations and outreach of the demonstration: the expert pool, consultations in every stage, doctors sent down, lessons, credits.

Everything goes through the room's own services on a clock of its own. Names are the scenario's; the outside hospital is invented.
"""

from __future__ import annotations

import datetime as dt
from random import Random

from lianxin.access import relationships
from lianxin.access.models import Account, Relationship
from lianxin.access.scope import Scope, scope_for_account
from lianxin.duty import kernel
from lianxin.duty.errors import MoveError
from lianxin.network import roles
from lianxin.network.models import Department, Institution, Post, Practitioner
from lianxin.record import timeline
from lianxin.regional.consult import service
from lianxin.regional.consult.models import Assignment, Consult, Expert
from lianxin.regional.consult.outreach import service as outreach
from lianxin.standards import clock

OUTSIDE = "TZ-YHYY"
_QUESTIONS = (
    ("急性脑梗死？", "左侧肢体无力 2 小时，血压 180/100 mmHg。", "是否溶栓、转诊？", "03.03", "emergency"),
    ("2 型糖尿病血糖控制不佳", "口服两联降糖药，空腹血糖 11 mmol/L。", "如何调整方案，是否起始胰岛素？", "03.07", "routine"),
    ("慢性阻塞性肺疾病急性加重", "咳嗽气促加重 3 天，指脉氧 90%。", "能否在基层治疗，抗生素如何选择？", "03.01", "urgent"),
    ("膝骨关节炎", "双膝疼痛 1 年，活动后加重。", "是否需要手术评估？", "04.03", "routine"),
    ("高血压，可疑继发", "年轻高血压，三联药物控制不佳。", "继发性高血压筛查如何安排？", "03.04", "routine"),
)  # fmt: skip
_SAID = (
    ("诊断基本明确。", "按指南用药，两周后复查；如加重立即转县医院。"),
    ("考虑病情有进展。", "建议转上级医院专科门诊，完善检查后再定方案。"),
)
_FEES = {"主任医师": 30000, "副主任医师": 20000}


def _scope(post: Post | None) -> Scope | None:
    if post is None:
        return None
    account = Account.objects.filter(practitioner=post.practitioner, is_active=True).first()
    return scope_for_account(account, post) if account else None


def experts() -> int:
    """The pool: specialists of the county's hospitals, and two of an outside hospital; how many."""
    posts = Post.objects.live().filter(
        role=roles.CLINICIAN,
        institution__tier="county",
        practitioner__title__in=_FEES,
        department__isnull=False,
    )
    for post in posts.select_related("practitioner", "department").order_by("pk"):
        Expert.objects.get_or_create(
            practitioner=post.practitioner, institution_id=post.institution_id,
            defaults={"department": post.department, "specialty": post.department.specialty if post.department else "",
                      "fee_fen": _FEES[post.practitioner.title], "good_at": f"{post.department.name if post.department else ''}疑难病例"},
        )  # fmt: skip
    outside, made = Institution.objects.get_or_create(
        code=OUTSIDE,
        defaults={
            "name": "云海市中心医院",
            "name_en": "Yunhai Central Hospital",
            "short_name": "云海中心医院",
            "kind": "hospital",
            "tier": "city",
            "level": "三级甲等",
        },
    )
    if made:
        for n, (name, specialty, where) in enumerate(
            (("诸葛行舟", "03.03", "神经内科"), ("司徒望岳", "19", "肿瘤科")), 1
        ):
            department = Department.objects.create(
                institution=outside, code=f"D{n}", name=where, specialty=specialty
            )
            doctor = Practitioner.objects.create(
                name=name, code=f"{OUTSIDE}-P{n}", title="主任医师", sex="male"
            )
            Post.objects.create(
                practitioner=doctor,
                institution=outside,
                department=department,
                role=roles.CLINICIAN,
                since=dt.date(2024, 1, 1),
            )
            Expert.objects.create(
                practitioner=doctor,
                institution=outside,
                department=department,
                specialty=specialty,
                fee_fen=50000,
                outside=True,
                most_open=2,
            )
    return Expert.objects.count()


def play(seed: int, now: dt.datetime) -> int:
    """The pool, twelve consultations of the past days in every stage, three doctors sent down; how many consultations. Played once."""
    if Consult.objects.unscoped("scenario: played before?").exists() or not experts():
        return 0
    drawn = Random(f"consult:{seed}")
    askers = [
        p
        for p in Post.objects.live()
        .filter(role=roles.GP)
        .select_related("practitioner", "institution")
        .order_by("pk")
        if _scope(p)
    ]
    count = 0
    for n in range(12):
        if askers and _one(drawn, askers[n % len(askers)], n, now):
            count += 1
    _outreach(drawn, now)
    return count


def _one(drawn: Random, asker: Post, n: int, now: dt.datetime) -> bool:
    by = _scope(asker)
    assert by is not None
    at = (
        now - dt.timedelta(days=(12 - n) / 2, hours=drawn.randrange(1, 4))
        if n < 9
        else now - dt.timedelta(minutes=drawn.randrange(2, 50))
    )
    known = Relationship.objects.filter(institution_id__in=by.institution_ids, kind="home", until=None)
    ids = list(known.order_by("person_id").values_list("person_id", flat=True)[:200])
    if not ids:
        return False
    person = drawn.choice(ids)
    visit = (
        person,
        asker.institution_id,
        "encounter",
        f"demo-consult-visit:{n}",
        now + dt.timedelta(days=30),
    )
    relationships.grant_many([visit], since=at - dt.timedelta(hours=1))
    diagnosis, history, question, specialty, priority = _QUESTIONS[n % len(_QUESTIONS)]
    host = Expert.objects.filter(specialty=specialty, outside=False, active=True).order_by("pk").first()
    scope = (
        _scope(Post.objects.live().filter(practitioner_id=host.practitioner_id, role=roles.CLINICIAN).first())
        if host
        else None
    )
    booked = n % 4 == 3
    refs = [
        e.ref
        for e in timeline.timeline(by, person, types=["DiagnosticReport", "Condition", "Encounter"], limit=4)
    ]
    form = {
        "mode": "booked" if booked else "immediate", "diagnosis": diagnosis, "history": history, "question": question, "phone": asker.institution.phone or "0576-83000000",
        "how": "signed", "given_by": "患者本人", "specialty": specialty, "experts": [str(host.pk)] if host and scope and n % 3 else [],
        "scheduled_at": f"{at + dt.timedelta(hours=20):%Y-%m-%d %H:%M}" if booked else "",
    }  # fmt: skip
    with clock.at(at):
        consult = service.request(
            by, person, form, f"demo-consult-{n}", materials=refs, priority="routine" if booked else priority
        )
    if host is None or scope is None or n >= 9:
        return True
    try:
        _go_on(consult, by, scope, host, n, at)
    except MoveError:
        return True  # somebody else's clock moved it: it stands where it stands
    return True


def _go_on(consult: Consult, by: Scope, expert: Scope, host: Expert, n: int, at: dt.datetime) -> None:
    number = consult.case.number
    steps: list[tuple[Scope, str, dict[str, object]]] = []
    if not n % 3:
        desk = (
            Post.objects.live()
            .filter(role=roles.REFERRAL_DESK, institution_id=consult.desk_id)
            .order_by("pk")
            .first()
        )
        scope = _scope(desk) if desk else None
        if scope is None:
            return
        steps.append((scope, "assign", {"experts": [str(host.pk)]}))
    impression, advice = _SAID[n % 2]
    steps += [(expert, "accept", {})]
    if consult.mode == "booked":
        steps += [(expert, "begin", {})]
    steps += [
        (expert, "conclude", {"impression": impression, "advice": advice}),
        (by, "acknowledge", {"action": "followed", "reason": "已按意见处理，患者好转。"}),
    ]
    for k, (who, move, form) in enumerate(steps[: len(steps) if n < 6 else len(steps) - (n - 5)]):
        with clock.at(at + dt.timedelta(minutes=4 + 9 * k)):
            kernel.execute(move, number, who, form, None, f"demo-consult-{number}-{k}")


def _outreach(drawn: Random, now: dt.datetime) -> None:
    today = now.astimezone(clock.ZONE).date()
    townships = list(
        Institution.objects.filter(tier="township", kind__in=("township", "community"), active=True).order_by(
            "code"
        )[:3]
    )
    for n, place in enumerate(townships):
        expert = (
            Expert.objects.filter(outside=False, institution__tier="county")
            .select_related("practitioner", "institution")
            .order_by("pk")[n * 3 : n * 3 + 1]
            .first()
        )
        post = Post.objects.live().filter(practitioner_id=expert.practitioner_id).first() if expert else None
        own = _scope(post) if post else None
        if (
            expert is None
            or own is None
            or Assignment.objects.filter(practitioner=expert.practitioner).exists()
        ):
            continue
        start = today - dt.timedelta(weeks=8)
        plan = outreach.Plan(
            expert.practitioner, expert.institution, place, ["clinic", "round", "teaching"], [1 + n, 4], start, today + dt.timedelta(weeks=18)
        )  # fmt: skip
        assignment = outreach.assign(
            Scope(
                institution_ids=frozenset({expert.institution_id}),
                everything=True,
                reason="scenario",
                name="医共体办",
            ),
            plan,
        )
        gp = (
            Post.objects.live()
            .filter(institution=place, role=roles.GP)
            .select_related("practitioner")
            .order_by("pk")
            .first()
        )
        confirmer = _scope(gp) if gp else None
        days = [
            start + dt.timedelta(days=d)
            for d in range(56)
            if (start + dt.timedelta(days=d)).isoweekday() in (1 + n, 4)
        ]
        for k, day in enumerate(days):
            with clock.at(dt.datetime(day.year, day.month, day.day, 17, tzinfo=clock.ZONE)):
                row = outreach.record_day(
                    own,
                    assignment,
                    day,
                    "clinic" if k % 2 else "round",
                    240,
                    drawn.choice(("门诊 18 人次", "查房 9 床，疑难 1 例", "")),
                )
                if confirmer is not None and k < len(days) - 2:
                    outreach.answer_day(confirmer, row, True)
                if gp is not None and k % 6 == 5:
                    outreach.teach(
                        own,
                        assignment,
                        f"{('高血压规范管理', '糖尿病足识别', '胸痛识别与转诊')[k // 6 % 3]}",
                        day,
                        60,
                        [gp.practitioner_id],
                    )
