"""The scenarios by name: stand the consortium up, settle its residents, play its weeks, list who may sign in."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from lianxin.clinical.referral import catalogue
from lianxin.scenarios import (
    bookings,
    centres,
    consult,
    critical,
    doubles,
    ecg,
    feeds,
    imaging,
    laboratory,
    life,
    pathology,
    places,
    population,
    quotas,
    recognition,
    sterile,
    tiantai,
    xining,
)
from lianxin.scenarios import build as builder
from lianxin.scenarios import residents as signed_up
from lianxin.scenarios.blueprint import Blueprint
from lianxin.scenarios.build import DemoAccount, Progress, quiet
from lianxin.scenarios.models import Building
from lianxin.standards import clock, codes

NAMES = ("tiantai", "xining")
DEFAULT_RESIDENTS = {"tiantai": 20_000, "xining": 2_000}
SEED = 2026
WEEKS = 4


@dataclass(frozen=True)
class Built:
    """What a scenario made."""

    consortium: str
    resources: int
    steps: int
    open_referrals: int


def plan(name: str, seed: int) -> Blueprint:
    """The blueprint of a scenario; KeyError when there is none of that name."""
    return {"tiantai": tiantai.blueprint, "xining": xining.blueprint}[name](seed)


def accounts(name: str = "tiantai", seed: int | None = None) -> list[DemoAccount]:
    """One ready account for each role of a scenario (drawn with the seed it was built with, unless another is given)."""
    if seed is None:
        seed = Building.objects.filter(name=name).values_list("seed", flat=True).first() or SEED
    phones = signed_up.listed() if name == "tiantai" else []
    return [*builder.demo_accounts(plan(name, seed)), *phones]


def ensure(
    progress: Progress = quiet, *, name: str = "tiantai", residents: int | None = None, seed: int = SEED
) -> bool:
    """Build the scenario unless it stands whole; an interrupted build goes on. Returns whether anything was done."""
    if Building.objects.filter(name=name, step="whole").exists():
        return False
    build(name, residents=residents, seed=seed, progress=progress)
    return True


def build(name: str, *, residents: int | None = None, seed: int = SEED, progress: Progress = quiet) -> Built:
    """Build a scenario as of now, through the platform's doors. Same seed and instant: same people and same story.

    Structure, accounts and residents may be built again without harm (their doors know what they have had). Days already played
    are not played again: a life cut off by a crash is left where it stopped.
    """
    count = DEFAULT_RESIDENTS[name] if residents is None else residents
    row, _ = Building.objects.get_or_create(
        name=name, defaults={"seed": seed, "residents": count, "as_of": clock.now().replace(microsecond=0)}
    )
    drawing, now = plan(name, row.seed), row.as_of.astimezone(clock.ZONE)
    since = now.replace(hour=7, minute=0, second=0) - dt.timedelta(weeks=WEEKS)
    resources = steps = 0
    if row.step == "drawn":
        codes.load_shipped()
        catalogue.load_shipped()
        builder.stand_up(drawing)
        builder.open_accounts(drawing, progress)
        builder.announce()
        builder.open_clinics(drawing, since.date(), WEEKS * 7 + 21)
        people = population.generate(homes(name), row.residents, row.seed, now.date())
        resources = builder.settle(people, row.seed, now.date(), progress)
        places.open_places(drawing, since.date(), WEEKS * 7 + 21, row.seed)
        _reach(row, "settled")
    if row.step == "settled":
        _reach(row, "living")
        doubles.register(homes(name), row.residents, row.seed, now.date(), drawing.lead)
        patients = min(160, row.residents // 20)
        if patients:
            second = tiantai.TCM if name == "tiantai" else xining.TCM
            steps = life.play(row.seed, since, now, patients, drawing.lead, second, progress)
    if name == "tiantai":
        feeds.play(homes(name), row.residents, row.seed, now, progress)
        signed_up.open_accounts()
    bookings.play(row.seed, since, now, progress)
    quotas.play([i["code"] for i in drawing.institutions], row.seed, now)
    centres.play(row.seed, now, progress)
    imaging.play(row.seed, now)
    ecg.play(now)
    laboratory.play(row.seed, now)
    if name == "tiantai":
        pathology.play(row.seed, now)
        consult.play(row.seed, now)
    critical.play(row.seed, now)
    sterile.play(row.seed, now)
    recognition.play(row.seed, now, progress)
    _reach(row, "whole")
    return Built(drawing.code, resources, steps, life.open_referrals())


def homes(name: str) -> list[population.Village]:
    """The villages of a scenario, each as often as its share of the residents."""
    return tiantai.villages() if name == "tiantai" else xining.villages()


def _reach(row: Building, step: str) -> None:
    row.step = step
    row.finished_at = clock.now() if step == "whole" else None
    row.save(update_fields=["step", "finished_at"])
