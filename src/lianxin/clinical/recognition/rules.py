"""Whose results are recognised where: the table of rules applied to one result. Pure but for the rows in memory."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from lianxin.clinical.recognition import marks
from lianxin.clinical.recognition.knowing import Place
from lianxin.clinical.recognition.models import Assessment, Group, Rule


@dataclass(frozen=True)
class Verdict:
    """May the receiver recognise it; must they (a mark that holds there and a rule that says so); by which rule."""

    allowed: bool
    must: bool = False
    rule: Rule | None = None
    own: bool = False


def fits(rule: Rule, maker: Place, receiver: Place, group: Group, valid_mark: bool, on: dt.date) -> bool:
    """Whether a rule speaks about results of ``group`` from ``maker`` at ``receiver`` on a day."""
    if not (rule.effective_from <= on and (rule.effective_until is None or on < rule.effective_until)):
        return False
    if (rule.group_id and rule.group_id != group.pk) or (rule.kind and rule.kind != group.kind):
        return False
    if rule.consortium_id and rule.consortium_id not in receiver.consortia:
        return False
    if rule.marked and not valid_mark:
        return False
    if not _near(rule, maker, receiver):
        return False
    if rule.level == "same":
        return maker.rank // 2 == receiver.rank // 2
    return rule.level == "any" or maker.rank // 2 >= receiver.rank // 2


def _near(rule: Rule, maker: Place, receiver: Place) -> bool:
    if rule.scope == "consortium":
        return bool(maker.consortia & receiver.consortia)
    if rule.scope == "region":
        return maker.division.startswith(rule.region) and receiver.division.startswith(rule.region)
    return True


def judge(
    rules: list[Rule], maker: Place, receiver: Place, group: Group, assessment: Assessment | None, on: dt.date
) -> Verdict:
    """The first rule that fits decides (``rules`` by rank). One's own results may always be used again."""
    if maker.pk == receiver.pk:
        return Verdict(True, own=True)
    valid = assessment is not None and marks.holds_at(assessment, receiver)
    for rule in rules:
        if fits(rule, maker, receiver, group, valid, on):
            return Verdict(rule.allows, rule.allows and rule.must and valid, rule)
    return Verdict(False)
