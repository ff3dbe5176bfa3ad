"""Standing a blueprint up: institutions through the import sheets, accounts through account administration, residents through
the bulk loader. Nothing is written behind the doors."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from lianxin.access import accounts
from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.exchange.load import load
from lianxin.network import roles, sheets
from lianxin.network.models import (
    Agreement,
    Capability,
    Consortium,
    Institution,
    Membership,
    Post,
    Practitioner,
)
from lianxin.pool import schedule
from lianxin.pool.models import Template
from lianxin.record import publish
from lianxin.scenarios import population
from lianxin.scenarios.blueprint import Blueprint
from lianxin.standards import pinyin
from lianxin.standards.text import T, Text

Item = TypeVar("Item")
Progress = Callable[[Text, Iterable[Any], int | None], Iterable[Any]]
SINCE = dt.date(2020, 1, 1)
DEMO_PASSWORD = "Lianxin-2026"


def quiet(label: Text, items: Iterable[Item], total: int | None = None) -> Iterable[Item]:
    """A progress bar that shows nothing."""
    return items


class Unbuildable(Exception):
    """A blueprint that its own import door refuses; the message names the rows."""


@dataclass(frozen=True)
class DemoAccount:
    """Somebody a newcomer may sign in as."""

    username: str
    password: str
    role: Text
    name: str
    institution: str


def stand_up(plan: Blueprint) -> Consortium:
    """Make the consortium of ``plan``: institutions, departments, people with posts, capabilities, memberships, agreements.

    Doing it again changes nothing. Raises :class:`Unbuildable` naming the rows that the import door refuses.
    """
    for kind, rows in (
        ("institutions", plan.institutions),
        ("departments", plan.departments),
        ("people", [{**row, "since": SINCE} for row in plan.people]),
    ):
        report = sheets.import_rows(kind, rows)
        if not report.ok:
            raise Unbuildable("; ".join(f"{kind} row {p[0]} {p[1]}: {p[2]}" for p in report.errors[:5]))
    found = {
        i.code: i for i in Institution.objects.filter(code__in=[row["code"] for row in plan.institutions])
    }
    consortium, _ = Consortium.objects.update_or_create(
        code=plan.code,
        defaults={
            "name": plan.name, "name_en": plan.name_en, "form": plan.form, "lead": found[plan.lead],
            "division": plan.division, "founded": dt.date.fromisoformat(plan.founded), "rules": plan.rules,
        },
    )  # fmt: skip
    for code, institution in found.items():
        if institution.kind == "village":  # belongs through its township centre
            continue
        Membership.objects.get_or_create(
            consortium=consortium, institution=institution, until=None,
            defaults={"role": plan.roles.get(code, "member"), "since": SINCE},
        )  # fmt: skip
    for code, kind, value, name in plan.capabilities:
        Capability.objects.get_or_create(
            institution=found[code],
            kind=kind,
            code=value,
            until=None,
            defaults={"name": name, "since": SINCE},
        )
    for a, b, kind, number in plan.agreements:
        Agreement.objects.get_or_create(
            consortium=consortium,
            party_a=found[a],
            party_b=found[b],
            kind=kind,
            defaults={"number": number, "since": SINCE},
        )
    return consortium


def open_accounts(plan: Blueprint, progress: Progress = quiet) -> None:
    """Give everybody of ``plan`` an account with the demonstration password (village doctors: the first of each township)."""
    scope = Scope.system(f"scenario {plan.code}: demonstration accounts")
    wanted = [
        row
        for row in plan.people
        if row["role"] != roles.VILLAGE_DOCTOR or row["institution"].endswith("-C01")
    ]
    have = set(Account.objects.values_list("practitioner__code", flat=True))
    people = {p.code: p for p in Practitioner.objects.filter(code__in=[row["code"] for row in wanted])}
    todo = [row for row in wanted if row["code"] not in have]
    for row in progress(T("开立账号", "Opening accounts"), todo, len(todo)):
        person = people[row["code"]]
        accounts.create(
            scope,
            username_of(row),
            person.name,
            practitioner=person,
            password=DEMO_PASSWORD,
            must_change=False,
        )


def username_of(row: dict[str, Any]) -> str:
    """A user name people can type: institution, surname in pinyin and the serial of the person (``tt-rmyy.zhang12``)."""
    return f"{row['institution']}.{pinyin.full(row['name'][:1])}{int(row['code'].rsplit('P', 1)[1])}".lower()


def demo_accounts(plan: Blueprint) -> list[DemoAccount]:
    """One account for each role of ``plan``, hospital and grassroots."""
    shown: dict[tuple[str, str], DemoAccount] = {}
    for row in plan.people:
        place = "" if row["role"] != roles.CLINICIAN else row["institution"]
        key = (row["role"], place)
        if key in shown:
            continue
        institution = next(i["name"] for i in plan.institutions if i["code"] == row["institution"])
        shown[key] = DemoAccount(
            username_of(row), DEMO_PASSWORD, roles.label(row["role"]), row["name"], institution
        )
    return list(shown.values())


def open_clinics(plan: Blueprint, since: dt.date, days: int) -> int:
    """Weekly clinics of every department, and their sessions from ``since``; returns how many sessions are new.

    Hospital clinics keep two numbers in five for the grassroots until the working day before (号源下沉).
    """
    institutions = Institution.objects.filter(code__in=[row["code"] for row in plan.institutions])
    if not Template.objects.filter(institution__in=institutions).exists():
        for post in (
            Post.objects.live()
            .filter(
                institution__in=institutions, role__in=(roles.CLINICIAN, roles.GP), department__isnull=False
            )
            .select_related("department", "institution", "practitioner")
            .order_by("practitioner__code")
        ):
            hospital = post.role == roles.CLINICIAN
            expert = post.practitioner.title == "主任医师"
            for weekday in (post.pk % 5, (post.pk + 2) % 5) if hospital else range(5):
                Template.objects.create(
                    institution=post.institution, department=post.department, practitioner=post.practitioner,
                    clinic_type="专家" if expert else "普通", weekday=weekday, start=dt.time(8, 0), end=dt.time(11, 30),
                    capacity=12 if expert else 20, reserved_county=(5 if expert else 8) if hospital else 0,
                    reserved_township=(5 if expert else 8) if hospital else 0,
                    fee_fen=2500 if expert else 1200 if hospital else 600, since=SINCE,
                )  # fmt: skip
    return schedule.make_sessions(since, days, institutions.values_list("pk", flat=True))


def settle(
    residents: Iterable[population.Resident], seed: int, as_of: dt.date, progress: Progress = quiet
) -> int:
    """Load residents and what their township centre knows of them through the bulk loader; returns the number of resources.

    Each township centre sends one NDJSON file of people and one of clinical data, as its own system would.
    """
    rng = Random(f"clinical:{seed}")
    sent = 0
    with tempfile.TemporaryDirectory(prefix="lianxin-") as folder:
        files: dict[tuple[str, int], Path] = {}
        handles: dict[tuple[str, int], Any] = {}
        try:
            for resident in residents:
                centre = resident.village.centre
                for part, resources in (
                    (0, [population.patient(resident)]),
                    (1, population.clinical(resident, rng, as_of)),
                ):
                    key = (centre, part)
                    if key not in handles:
                        files[key] = Path(folder) / f"{part}-{centre}.ndjson"
                        handles[key] = files[key].open("w", encoding="utf-8")
                    for resource in resources:
                        handles[key].write(
                            json.dumps(resource, ensure_ascii=False, separators=(",", ":")) + "\n"
                        )
        finally:
            for handle in handles.values():
                handle.close()
        for key in progress(
            T("居民与健康档案入库", "Loading residents and their records"), sorted(files), len(files)
        ):
            report = load([files[key]], institution=key[0])
            if report.refused:
                raise Unbuildable(f"{files[key].name}: {report.refused} resources refused")
            sent += report.accepted
    return sent


def announce() -> None:
    """Publish institutions, departments and practitioners into the record."""
    publish.publish_network()
