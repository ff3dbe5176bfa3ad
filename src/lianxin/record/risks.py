"""What the record knows against merging two people on one person's word: blood groups or allergies that differ.

Registered with ``index.hooks.on_risk``. Says that they differ, never what they are: reviewers need not be clinicians.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import orjson
import yaml
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.record import timeline
from lianxin.record.definitions import sources
from lianxin.record.keys import key_scoped
from lianxin.record.store import opened
from lianxin.standards.text import T, Text

_SCOPE = Scope.system("what speaks against merging two people")


@cache
def _codes() -> list[str]:
    return list(
        yaml.load((Path(__file__).parent / "risks.yaml").read_text("utf-8"), yaml.CSafeLoader)["blood_group"]
    )


def differ(one: list[int], other: list[int]) -> list[Text]:
    """Reasons for a second look, of two people (each with whoever was merged into it)."""
    found = []
    groups = [_blood_groups(side) for side in (one, other)]
    if all(groups) and groups[0].isdisjoint(groups[1]):
        found.append(T("两人的血型记录不同", "Their recorded blood groups differ"))
    allergies = [_allergies(side) for side in (one, other)]
    if all(allergies) and allergies[0] != allergies[1]:
        found.append(T("两人的过敏记录不同", "Their recorded allergies differ"))
    return found


def _allergies(person_ids: list[int]) -> set[str]:
    return {
        line["title"] for pk in person_ids for line in timeline.banner(_SCOPE, pk).allergies if line["title"]
    }


def _blood_groups(person_ids: list[int]) -> set[str]:
    """Blood groups as they are written, one kind of test at a time ("ABO A")."""
    out = set()
    with connection.cursor() as cur:
        cur.execute("SELECT subj FROM record_patient WHERE person_id = ANY(%s)", [person_ids])
        subjects = [row[0] for row in cur.fetchall()]
        numbers = [source.number for source in sources("Observation", "combo-code")]
        keys = [key_scoped(subj, n, code) for subj in subjects for n in numbers for code in _codes()]
        cur.execute(
            "SELECT r.body FROM record_resource r WHERE r.keys && %s::bigint[] AND r.person_id = ANY(%s) AND NOT r.deleted"
            " AND r.rtype = 'Observation' LIMIT 50",
            [keys, person_ids],
        )
        bodies = [row[0] for row in cur.fetchall()]
    for body in bodies:
        resource = orjson.loads(opened("Observation", body))
        text = timeline.value_text(resource).strip().upper().replace("型", "")
        if text and resource.get("status") != "entered-in-error":
            out.add(text)
    return out
