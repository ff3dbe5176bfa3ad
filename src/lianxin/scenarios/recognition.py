"""Mutual recognition in the demonstration: who passed which quality assessment, and what hospital doctors did with townships' results."""

from __future__ import annotations

import datetime as dt
from random import Random

from lianxin.access import relationships
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.clinical.recognition import decisions, knowing, search, sheets
from lianxin.clinical.recognition.decisions import Choice
from lianxin.clinical.recognition.models import Assessment, Decision, Result
from lianxin.network import directory, roles
from lianxin.network.models import Institution, Post
from lianxin.scenarios.build import Progress, quiet
from lianxin.standards import clock
from lianxin.standards.text import T

MEMBERS, DECISIONS = 6, 40
_WHY = "recognition in the demonstration"
_KINDS = (
    ("laboratory", "浙江省临床检验中心", "province"),
    ("ecg", "台州市心电质控中心", "city"),
    ("xray", "台州市放射质控中心", "city"),
)
_REASONS = ("01", "02", "04", "07", "98")


def play(seed: int, now: dt.datetime, progress: Progress = quiet) -> int:
    """Enter assessments of the last two years' rounds and decide about results that are there; returns how many decisions (0: done before)."""
    post = (
        Post.objects.live()
        .filter(role=roles.READER)
        .select_related("institution")
        .order_by("institution__code")
        .first()
    )
    if post is None or Assessment.objects.exists():
        return 0
    lead = post.institution
    assess(lead, now)
    return decide(Random(f"recognition:{seed}"), lead, now, progress)


def assess(lead: Institution, now: dt.datetime) -> None:
    """The lead and some members passed; one of them failed at X-ray."""
    consortium = directory.consortia_of(lead).first()
    members = (
        [lead, *(i for i in directory.members_of(consortium) if i.pk != lead.pk)][: MEMBERS + 1]
        if consortium
        else [lead]
    )
    year = now.year
    for n, member in enumerate(members):
        for kind, organiser, reach in _KINDS:
            row, errors = sheets.assessment(
                member, kind, year, organiser, reach, not (n == MEMBERS and kind == "xray"), dt.date(year - 1, 1, 1), None,
                f"{organiser} {year - 1} 年度室间质评通报（演示）", consortium,
            )  # fmt: skip
            if row is not None and not errors:
                sheets.keep(row)
    knowing.forget()


def decide(draw: Random, lead: Institution, now: dt.datetime, progress: Progress = quiet) -> int:
    """Doctors of the lead meet townships' results while ordering: most are used, some repeated with a reason."""
    doctors = _doctors(lead)
    if not doctors:
        return 0
    found = (
        Result.objects.unscoped(_WHY)
        .filter(state="live", at__lte=now)
        .exclude(institution=lead)
        .order_by("-at", "pk")
    )
    before = Decision.objects.unscoped(_WHY).count()
    rows = list(found.select_related("group")[: DECISIONS * 4])
    for n, row in enumerate(progress(T("演练结果互认", "Playing mutual recognition"), rows, len(rows))):
        if Decision.objects.unscoped(_WHY).count() - before >= DECISIONS:
            break
        by = doctors[n % len(doctors)]
        at = min(row.at + dt.timedelta(hours=draw.randint(2, 40)), now)
        if not relationships.sees(by, row.person_id):
            continue
        with clock.at(at):
            hits = [h for h in search.find(row.person_id, [row.group], lead.pk, at) if h.pk == row.pk]
            choice = (
                Choice(True) if draw.random() < 0.75 else Choice(False, draw.choice(_REASONS), "复查前后对照")
            )
            decisions.decide(
                by,
                row.person_id,
                hits,
                {row.pk: choice},
                order=f"DEMO-HR-{n}",
                door="page",
                key=f"demo:recognition:{n}",
            )
    return int(Decision.objects.unscoped(_WHY).count() - before)


def _doctors(lead: Institution) -> list[Scope]:
    posts = Post.objects.live().filter(institution=lead, role=roles.CLINICIAN).order_by("pk")[:4]
    accounts = [
        (Account.objects.filter(practitioner_id=p.practitioner_id, is_active=True).first(), p) for p in posts
    ]
    return [scope_for_account(account, post) for account, post in accounts if account is not None]
