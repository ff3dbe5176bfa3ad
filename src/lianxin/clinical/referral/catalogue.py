"""Disease catalogues: at diagnosis entry, "treat here", "refer up, why" or "ready to go down, why".

A catalogue (基层首诊, 县乡两级, 不轻易外转) is versioned data; a rule covers an ICD-10 range, names the tiers that treat it,
and lists conditions (expressions over facts) to refer or to go down. The answer is computed by :func:`decide`, a pure function.
The doctor may override it with a reason; answer and override are kept on the referral.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Q

from lianxin.clinical.referral import rules
from lianxin.clinical.referral.models import Catalogue, CatalogueRule
from lianxin.network.kinds import TIER_ORDER, TIERS
from lianxin.standards import clock
from lianxin.standards.text import T, Text

DATA = Path(__file__).parent / "data" / "catalogues.json"
NOTHING = Text("", "")
TREAT_HERE, REFER_UP, READY_DOWN = "treat_here", "refer_up", "ready_down"
KINDS: dict[str, Text] = {
    TREAT_HERE: T("本机构诊治", "Treat here"),
    REFER_UP: T("建议上转", "Refer up"),
    READY_DOWN: T("可以下转", "Ready to go down"),
}


@dataclass(frozen=True)
class Answer:
    """What the catalogues say, with the rule's words and where they come from."""

    kind: str
    why: Text
    rule: str = ""
    rule_name: Text = NOTHING
    catalogue: Text = NOTHING
    evidence: str = ""
    emergency: bool = False
    pack: str = ""
    specialty: str = ""
    facts: tuple[str, ...] = ()
    also: tuple[Text, ...] = field(default=())

    @property
    def label(self) -> Text:
        """The kind of answer in words."""
        return KINDS[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """As stored on the referral and shown again later."""
        return {
            "kind": self.kind,
            "why": self.why.to_dict(),
            "rule": self.rule,
            "rule_name": self.rule_name.to_dict(),
            "catalogue": self.catalogue.to_dict(),
            "evidence": self.evidence,
            "emergency": self.emergency,
            "pack": self.pack,
            "specialty": self.specialty,
            "facts": list(self.facts),
            "also": [text.to_dict() for text in self.also],
        }


GRASSROOTS_TIERS = frozenset({"village", "township"})


def rules_for(diagnosis_code: str, consortium: Any = None, on: dt.date | None = None) -> list[CatalogueRule]:
    """Rules in force whose ICD-10 range holds the diagnosis; a consortium's own catalogue replaces the common one of its kind."""
    code = rules.icd(diagnosis_code)
    if not code:
        return []
    live = Catalogue.on(on or clock.today()).filter(Q(consortium=None) | Q(consortium=consortium))
    newest: dict[str, Catalogue] = {}
    for row in sorted(live, key=lambda c: (c.consortium_id is not None, c.effective_from, c.version)):
        newest[row.kind] = row
    found = CatalogueRule.objects.filter(
        catalogue__in=newest.values(), icd_from__lte=code + "~"
    ).select_related("catalogue")
    return [
        rule
        for rule in found.order_by("catalogue__kind", "code")
        if rules.icd_in(code, rule.icd_from, rule.icd_to)
    ]


def facts_for(
    diagnosis_code: str, consortium: Any = None, on: dt.date | None = None, *, tier: str = "county"
) -> list[rules.Fact]:
    """The questions to ask at diagnosis entry at an institution of ``tier``, in the order of the fact list.

    Whether somebody may go down is asked where people are sent down from; the grassroots are asked about going up only.
    """
    wanted: set[str] = set()
    for rule in rules_for(diagnosis_code, consortium, on):
        down = rule.may_down_when if tier not in GRASSROOTS_TIERS else []
        for condition in [*rule.must_refer_when, *down]:
            if tier in condition.get("at", TIER_ORDER):
                wanted |= rules.check_expression(condition["when"])
    return [fact for code, fact in rules.FACTS.items() if code in wanted]


def answer(
    diagnosis_code: str,
    facts: Mapping[str, Any],
    institution: Any,
    consortium: Any = None,
    on: dt.date | None = None,
) -> Answer:
    """The catalogues' answer for a diagnosis made at ``institution`` with these facts."""
    return decide(rules_for(diagnosis_code, consortium, on), facts, institution.tier)


def _named(rule: CatalogueRule) -> dict[str, Any]:
    return {
        "rule": rule.code,
        "rule_name": Text(rule.name, rule.name_en or rule.name),
        "catalogue": Text(rule.catalogue.title, rule.catalogue.title_en or rule.catalogue.title),
        "pack": rule.pack,
        "specialty": rule.specialty,
    }


def _applies(condition: Mapping[str, Any], tier: str, facts: Mapping[str, Any]) -> bool:
    return tier in condition.get("at", TIER_ORDER) and rules.holds(condition["when"], facts)


def decide(found: Iterable[CatalogueRule], facts: Mapping[str, Any], tier: str) -> Answer:
    """Pure: the most pressing answer of the rules that cover a diagnosis.

    Order: an emergency condition, a condition to refer, a tier that does not treat the disease, ready to go down, treat here.
    """
    found = list(found)
    hits = [
        (bool(condition.get("emergency")), rule, condition)
        for rule in found
        for condition in rule.must_refer_when
        if _applies(condition, tier, facts)
    ]
    if hits:
        hits.sort(key=lambda hit: not hit[0])
        emergency, rule, condition = hits[0]
        return Answer(
            REFER_UP,
            Text(condition["zh"], condition["en"]),
            evidence=condition.get("source") or rule.evidence,
            emergency=emergency,
            facts=tuple(rules.facts_true(condition["when"], facts)),
            also=tuple(Text(c["zh"], c["en"]) for _, _, c in hits[1:]),
            **_named(rule),
        )
    rank = TIER_ORDER.index(tier)
    for rule in found:
        if rule.tiers_allowed and rank < min(TIER_ORDER.index(name) for name in rule.tiers_allowed):
            lowest = min(rule.tiers_allowed, key=TIER_ORDER.index)
            why = T(
                "{catalogue}：{name}由{tier}医疗机构诊治", "{catalogue}: {name} is treated at {tier} level"
            ).format(
                catalogue=Text(rule.catalogue.title, rule.catalogue.title_en or rule.catalogue.title),
                name=Text(rule.name, rule.name_en or rule.name),
                tier=TIERS[lowest],
            )
            return Answer(REFER_UP, why, evidence=rule.evidence, **_named(rule))
    for rule in found:
        for condition in rule.may_down_when:
            if _applies(condition, tier, facts) and rank > 0:
                return Answer(
                    READY_DOWN,
                    Text(condition["zh"], condition["en"]),
                    evidence=condition.get("source") or rule.evidence,
                    facts=tuple(rules.facts_true(condition["when"], facts)),
                    **_named(rule),
                )
    for rule in sorted(
        found, key=lambda r: tier not in r.tiers_allowed
    ):  # the catalogue that speaks of this tier first
        why = T(
            "{catalogue}：{name}可在本级诊治，未见须上转情形",
            "{catalogue}: {name} is treated at this level; no condition to refer is present",
        ).format(
            catalogue=Text(rule.catalogue.title, rule.catalogue.title_en or rule.catalogue.title),
            name=Text(rule.name, rule.name_en or rule.name),
        )
        return Answer(TREAT_HERE, why, evidence=rule.evidence, **_named(rule))
    return Answer(
        TREAT_HERE,
        T(
            "目录未收录该诊断，请按临床判断处理",
            "The catalogues do not list this diagnosis; use clinical judgement",
        ),
    )


def override_needed(kind: str, has_rule: bool, direction: str) -> bool:
    """Whether sending in this direction goes against the catalogues, so that a reason must be written."""
    if not has_rule:
        return False
    if direction == "up":
        return kind != REFER_UP
    if direction == "down":
        return kind == REFER_UP
    return False


class BadCatalogue(ValueError):
    """A catalogue file that cannot be taken; ``errors`` is a list of (place, Text)."""

    def __init__(self, errors: list[tuple[str, Text]]) -> None:
        super().__init__("; ".join(f"{place}: {text}" for place, text in errors))
        self.errors = errors


def _check_rule(place: str, row: Mapping[str, Any]) -> list[tuple[str, Text]]:
    errors: list[tuple[str, Text]] = []
    for name in ("code", "name", "icd_from", "icd_to", "evidence"):
        if not str(row.get(name) or "").strip():
            errors.append((f"{place}.{name}", T("必填", "Required")))
    for tier in row.get("tiers_allowed", []):
        if tier not in TIER_ORDER:
            errors.append(
                (f"{place}.tiers_allowed", T("未知层级「{tier}」", "Unknown tier “{tier}”").format(tier=tier))
            )
    if row.get("pack") and row["pack"] not in rules.PACKS:
        errors.append(
            (f"{place}.pack", T("未知资料包「{pack}」", "Unknown pack “{pack}”").format(pack=row["pack"]))
        )
    for name in ("must_refer_when", "may_down_when"):
        for number, condition in enumerate(row.get(name, [])):
            here = f"{place}.{name}[{number}]"
            try:
                rules.check_expression(condition.get("when"))
            except rules.BadExpression as error:
                errors.append((f"{here}.when", error.message))
            if not condition.get("zh") or not condition.get("en"):
                errors.append((here, T("须有中英文说明 zh、en", "Needs its words in zh and en")))
    return errors


def import_catalogues(data: list[dict[str, Any]], consortium: Any = None) -> int:
    """Store catalogues (all or nothing, idempotent per code and version); returns the number of rules. Raises BadCatalogue."""
    errors = [
        problem
        for c, book in enumerate(data)
        for r, row in enumerate(book.get("rules", []))
        for problem in _check_rule(f"[{c}].rules[{r}]", row)
    ]
    if errors:
        raise BadCatalogue(errors)
    count = 0
    with transaction.atomic():
        for book in data:
            head, _ = Catalogue.objects.update_or_create(
                code=book["code"],
                version=book["version"],
                consortium=consortium,
                defaults={
                    "title": book["title"],
                    "title_en": book.get("title_en", ""),
                    "kind": book["kind"],
                    "effective_from": book["effective_from"],
                    "effective_to": book.get("effective_to"),
                    "source": book.get("source", ""),
                },
            )
            head.rules.all().delete()
            fields = ("code", "name", "icd_from", "icd_to", "evidence")
            more = ("name_en", "pack", "specialty")
            CatalogueRule.objects.bulk_create(
                CatalogueRule(
                    catalogue=head,
                    **{name: row[name] for name in fields},
                    **{name: row.get(name, "") for name in more},
                    **{
                        name: row.get(name, [])
                        for name in ("tiers_allowed", "must_refer_when", "may_down_when")
                    },
                )
                for row in book["rules"]
            )
            count += len(book["rules"])
    return count


def load_shipped() -> int:
    """Store the catalogues that ship with the platform (idempotent); returns the number of rules."""
    data = json.loads(DATA.read_text("utf-8"))
    known = set(Catalogue.objects.filter(consortium=None).values_list("code", "version"))
    fresh = [book for book in data if (book["code"], book["version"]) not in known]
    return import_catalogues(fresh) if fresh else 0
