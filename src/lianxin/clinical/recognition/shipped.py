"""What the platform ships: item groups with days, prices and codes, two rules, the reason codes, levels. Loaded after migrate; what a
house changed stays."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lianxin.clinical.recognition.models import Code, Group, Rule, Term
from lianxin.standards.text import T, Text

DATA = Path(__file__).parent / "data"
LOINC = "http://loinc.org"
ITEMS = "http://lianxin.example/cs/order-item"


def _file(name: str) -> dict[str, Any]:
    return dict(yaml.load((DATA / name).read_text("utf-8"), Loader=yaml.CSafeLoader))


@dataclass(frozen=True)
class Reason:
    """Why a result is not used. ``counts``: it is a refusal; ``text``: words of one's own are required."""

    code: str
    label: Text
    explain: Text
    counts: bool = True
    text: bool = False

    def explanation(self, item: Text, where: Text, day: dt.date) -> Text:
        """What the patient is told."""
        return self.explain.format(item=item, where=where, day=f"{day:%Y-%m-%d}")


@functools.cache
def reasons() -> dict[str, Reason]:
    """The code set, in its order."""
    return {
        row["code"]: Reason(
            row["code"], T(row["name"], row["name_en"]), T(row["explain"], row["explain_en"]), row.get("counts", True), row.get("text", False)
        )
        for row in _file("reasons.yaml")["reasons"]
    }  # fmt: skip


@functools.cache
def levels() -> tuple[dict[str, int], dict[str, str]]:
    """Rank of each grade, and the grade of a tier without one."""
    found = _file("levels.yaml")
    return {name: n for n, name in enumerate(found["levels"])}, dict(found["tiers"])


def load(**_: Any) -> None:
    """Insert what is not there yet."""
    file = _file("groups.yaml")
    day, source = file["effective_from"], file["source"]
    made = []
    for row in file["groups"]:
        group = Group(
            code=row["code"], kind=row["kind"], modality=row["modality"], price_fen=int(row["price"]) * 100, name=row["name"],
            name_en=row["en"], covers=row.get("covers", []),
        )  # fmt: skip
        group.set_pinyin()
        made.append(group)
    Group.objects.bulk_create(made, ignore_conflicts=True)
    ids = dict(Group.objects.values_list("code", "pk"))
    terms = [
        Term(group_id=ids[r["code"]], valid_days=r["days"], effective_from=day, source=source)
        for r in file["groups"]
    ]
    Term.objects.bulk_create(terms, ignore_conflicts=True)
    codes = [Code(system=ITEMS, code=r["code"], group_id=ids[r["code"]]) for r in file["groups"]]
    codes += [
        Code(system=LOINC, code=c, group_id=ids[r["code"]])
        for r in file["groups"]
        for c in r.get("codes", [])
    ]
    Code.objects.bulk_create(codes, ignore_conflicts=True)
    for row in _file("rules.yaml")["rules"]:
        if not Rule.objects.filter(name=row["name"], consortium=None).exists():
            Rule.objects.create(name_en=row["en"], **{k: v for k, v in row.items() if k != "en"})
