"""The topics one may subscribe to (``data/topics.json``), in the terms of FHIR R5 SubscriptionTopic.

A trigger names a type, the interactions, and what must hold of the version before (``previous``) and after (``current``), both
as search strings; ``both``: both must hold (R5 ``requireBoth``).  A resource that is created has no version before: that test
then passes (R5 ``resultForCreate`` = test-passes).  ``changed``: one of these elements must differ from the version before.
The filter ``from`` of a type with ``changed`` asks for the status before: ``Task?from=requested&status=accepted``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from lianxin.standards.text import Text

BEFORE = "from"  # the filter on the status of the version before


@dataclass(frozen=True)
class Trigger:
    """When a change of one type is an event of the topic."""

    rtype: str
    interactions: frozenset[str]
    current: tuple[tuple[str, str], ...] = ()
    previous: tuple[tuple[str, str], ...] = ()
    both: bool = False
    changed: tuple[str, ...] = ()

    @property
    def looks_back(self) -> bool:
        """Whether the version before matters."""
        return bool(self.previous or self.changed or "delete" in self.interactions)


@dataclass(frozen=True)
class Topic:
    """What may be subscribed to; ``filters`` are the parameters a subscription may narrow it by, for each type."""

    url: str
    title: Text
    triggers: tuple[Trigger, ...]
    filters: dict[str, tuple[str, ...]]

    @property
    def rtypes(self) -> list[str]:
        """The types it is about."""
        return sorted({t.rtype for t in self.triggers})


def _pairs(query: str) -> tuple[tuple[str, str], ...]:
    return tuple(parse_qsl(query, keep_blank_values=True))


def _topic(given: dict[str, Any]) -> Topic:
    return Topic(
        given["url"],
        Text(**given["title"]),
        tuple(
            Trigger(
                one["resource"], frozenset(one["interactions"]), _pairs(one.get("current", "")), _pairs(one.get("previous", "")),
                one.get("both", False), tuple(one.get("changed", ())),
            )
            for one in given["triggers"]
        ),
        {rtype: tuple(names) for rtype, names in given["filters"].items()},
    )  # fmt: skip


@cache
def topics() -> dict[str, Topic]:
    """Every topic by its canonical address."""
    given = json.loads(Path(__file__).with_name("data").joinpath("topics.json").read_text("utf-8"))
    return {topic.url: topic for topic in map(_topic, given)}


def find(canonical: str) -> Topic | None:
    """The topic of a canonical address (a version after ``|`` is not looked at: there is one)."""
    return topics().get(canonical.partition("|")[0])
