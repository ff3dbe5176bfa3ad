"""What a pack can say by itself: the words the record already holds, for a doctor to correct.

Prefilled text is a proposal in the form; nothing is stored until a person sends it.
"""

from __future__ import annotations

from typing import Any

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.clinical.referral.models import Letter, Referral
from lianxin.record import timeline
from lianxin.standards.text import T


def _lines(items: list[str]) -> str:
    return "\n".join(dict.fromkeys(i for i in items if i))


def _text(entry: dict[str, Any], *names: str) -> str:
    return " ".join(str(entry[n]) for n in names if entry.get(n))


def up_pack(scope: Scope, person_id: int, diagnosis: str = "") -> dict[str, str]:
    """Past history, drugs, allergies and recent pressures or glucose of a person, as the pack's lines."""
    if not relationships.sees(scope, person_id):
        return {}
    found = timeline.summary(scope, person_id)
    problems = [_text(p, "title") for p in found.problems]
    drugs = [_text(m, "title", "dose") for m in found.medicines]
    allergies = [_text(a, "title") for a in found.allergies]
    results = {
        "bp_record": [
            _result(r) for r in found.results if _about(r, "血压", "blood pressure", "收缩", "舒张")
        ],
        "glucose_record": [_result(r) for r in found.results if _about(r, "血糖", "glucose", "糖化", "a1c")],
    }
    return {
        "impression": diagnosis,
        "past": _lines(problems),
        "medication": _lines(drugs) or str(T("无", "None")),
        "allergies": "、".join(allergies) or str(T("无已知过敏", "No known allergies")),
        **{name: _lines(lines[:4]) for name, lines in results.items()},
    }


def _about(result: dict[str, Any], *words: str) -> bool:
    title = str(result.get("title", "")).lower()
    return any(w in title for w in words)


def _result(result: dict[str, Any]) -> str:
    date = result.get("date")
    day = f"{date:%m-%d}" if date else ""
    return f"{day} {_text(result, 'title', 'value')}".strip()


def discharge_diagnosis(referral: Referral) -> str:
    """The diagnosis at discharge when one was given, else the one the patient was referred with."""
    return str(referral.down_proposal.get("diagnosis_name") or referral.diagnosis_name)


def down_pack(scope: Scope, referral: Referral) -> dict[str, str]:
    """The down-referral's pack from the outcome letter when there is one, else from the record."""
    letter = (
        Letter.objects.within(scope).filter(referral=referral, kind="outcome").order_by("-number").first()
        if referral.pk
        else None
    )
    said = letter.content if letter else {}
    words = {
        "diagnosis": said.get("diagnosis") or discharge_diagnosis(referral),
        "record_no": referral.visit_number,
        "summary": said.get("done", ""),
        "drugs": said.get("drugs_changed", ""),
        "danger_signs": said.get("watch_for", ""),
    }
    if not words["drugs"] and relationships.sees(scope, referral.person_id):
        found = timeline.summary(scope, referral.person_id)
        words["drugs"] = _lines([_text(m, "title", "dose") for m in found.medicines])
    return {name: str(value or "") for name, value in words.items()}
