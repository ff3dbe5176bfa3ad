"""Forms of moves as people see them: institution codes become lists, the pack and the facts become fields, numbers to choose.

A move's form (``forms.py``) speaks FHIR parameter names; here its plain text fields get the widgets and the prefilled words a
page needs. Nothing is decided here: the kernel binds the original form again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms as django_forms

from lianxin.access.scope import Scope
from lianxin.clinical.referral import catalogue, pages_view, prefill, rules
from lianxin.clinical.referral.models import Letter, Referral
from lianxin.network import directory
from lianxin.network.models import Department, Institution
from lianxin.standards import clock, codes
from lianxin.standards.text import T, Text

BLANK = ("", "—")
FACT_YES = (("", T("未知", "Unknown")), ("true", T("是", "Yes")), ("false", T("否", "No")))


def name_of(thing: Any) -> str:
    """The name in the active language."""
    return str(Text(thing.name, getattr(thing, "name_en", "") or thing.name))


def fact_fields(found: Iterable[rules.Fact]) -> dict[str, django_forms.Field]:
    """``fact_<code>`` fields: a number with its unit, or yes / no / unknown."""
    fields: dict[str, django_forms.Field] = {}
    for fact in found:
        if fact.kind == "bool":
            field: django_forms.Field = django_forms.BooleanField(label=fact.label, required=False)
            field.widget.attrs["value"] = "true"
        else:
            field = django_forms.CharField(
                label=T("{label}({unit})", "{label} ({unit})").format(label=fact.label, unit=fact.unit)
                if fact.unit
                else fact.label,
                required=False,
                widget=django_forms.NumberInput(
                    attrs={"inputmode": "decimal", "step": "any", "min": fact.low, "max": fact.high}
                ),
            )
        fields[f"fact_{fact.code}"] = field
    return fields


def pack_fields(parts: Iterable[rules.Part], filled: Mapping[str, str]) -> dict[str, django_forms.Field]:
    """``pack_<code>`` fields of the mandatory pack, prefilled from the record where it can be."""
    return {
        f"pack_{part.code}": django_forms.CharField(
            label=part.label,
            help_text=part.hint,
            required=True,
            initial=filled.get(part.code, ""),
            widget=django_forms.Textarea(attrs={"rows": 3, "data-prefilled": ""})
            if part.long
            else django_forms.TextInput(),
        )
        for part in parts
    }


def institutions(referral: Referral, scope: Scope, *, down: bool = False) -> list[tuple[str, str]]:
    """Where a referral may go from here: members of its consortium, nearest first, without those already asked."""
    here = Institution.objects.get(pk=scope.institution_id or 0)
    asked = set(
        referral.legs.model.objects.within(scope)
        .filter(referral=referral)
        .values_list("institution_id", flat=True)
    )
    asked |= {referral.from_institution_id, here.pk} if not down else {here.pk}
    members: list[Institution] = []
    for consortium in directory.consortia_of(here):
        members += [i for i in directory.members_of(consortium) if i.pk not in asked and i not in members]
    if down:
        members.sort(
            key=lambda i: i.pk not in (referral.from_institution_id, referral.person.home_institution_id)
        )
    ranked = directory.nearest(here, members)
    if down:
        first = [
            p
            for p in ranked
            if p[0].pk in (referral.person.home_institution_id, referral.from_institution_id)
        ]
        ranked = first + [p for p in ranked if p not in first]
    return [(i.code, f"{name_of(i)}" + (f" · {km:.0f} km" if km is not None else "")) for i, km in ranked]


def departments(institution_id: int) -> list[tuple[str, str]]:
    """Active departments of an institution as choices."""
    found = Department.objects.filter(institution_id=institution_id, active=True)
    return [(d.code, name_of(d)) for d in found]


def specialties() -> list[tuple[str, Any]]:
    """Specialties (诊疗科目) as choices."""
    return list(codes.choices("specialty"))


def _tier(referral: Referral) -> str:
    """The tier at which the patient is treated: whether somebody may go down is asked there."""
    return referral.to_institution.tier if referral.to_institution is not None else "county"


def dress(form: django_forms.Form, move: str, referral: Referral, scope: Scope) -> django_forms.Form:
    """Give a move's form the widgets and prefilled words of a page (in place; returns it)."""
    fields = form.fields
    down = move == "propose_down" or referral.direction == "down"
    if "to_institution" in fields:
        fields["to_institution"].widget = django_forms.Select(
            choices=[BLANK, *institutions(referral, scope, down=down)]
        )
    if "to_department" in fields:
        if "to_institution" in fields or referral.to_institution_id is None:
            fields["to_department"].widget = django_forms.HiddenInput()
        else:
            fields["to_department"].widget = django_forms.Select(
                choices=[BLANK, *departments(referral.to_institution_id)]
            )
            if referral.to_department_id:
                fields["to_department"].initial = referral.to_department.code  # type: ignore[union-attr]
    if "specialty" in fields:
        fields["specialty"].widget = django_forms.Select(choices=[BLANK, *specialties()])
        fields["specialty"].initial = referral.specialty
    if "followup_institution" in fields:
        fields["followup_institution"].widget = django_forms.HiddenInput()
    if "facts" in fields:
        fields["facts"].widget = django_forms.HiddenInput()
        fields.update(
            fact_fields(
                catalogue.facts_for(referral.diagnosis_code, referral.consortium, tier=_tier(referral))
            )
        )
    if "pack" in fields:
        fields["pack"].widget = django_forms.HiddenInput()
        direction = "down" if move == "propose_down" else referral.direction
        parts = rules.pack_parts(direction, False, str(referral.answer.get("pack") or ""))
        filled = prefill.down_pack(scope, referral) if move == "propose_down" else dict(referral.pack)
        fields.update(pack_fields(parts, filled))
    for name, value in _first_words(move, referral).items():
        if name in fields:
            fields[name].initial = value
    form.beside = pages_view.beside(move, referral, scope)  # type: ignore[attr-defined]
    return form


def _first_words(move: str, referral: Referral) -> dict[str, Any]:
    now = clock.now()
    week = now + dt.timedelta(days=7)
    words: dict[str, Any] = {
        "diagnosis_code": referral.diagnosis_code,
        "diagnosis_name": referral.diagnosis_name,
    }
    if move == "edit":
        plain = (
            "direction",
            "specialty",
            "priority",
            "reason_code",
            "reason",
            "emergency",
            "override_reason",
        )
        words |= {name: getattr(referral, name) for name in plain}
        words["to_institution"] = referral.to_institution.code if referral.to_institution else ""
        words["to_department"] = referral.to_department.code if referral.to_department else ""
        words["parent"] = referral.parent.case.number if referral.parent else ""
        words |= {f"fact_{k}": v for k, v in referral.answer.get("given", {}).items()}
    if move == "send_outcome":
        words |= {
            "diagnosis": prefill.discharge_diagnosis(referral),
            "follow_when": week.date(),
            "record_no": referral.visit_number,
        }
        words["who_follows"] = name_of(referral.from_institution)
    if move == "acknowledge":
        words["followup_at"] = _asked_for(referral) or week.replace(hour=9, minute=0, second=0, microsecond=0)
    return words


def _asked_for(referral: Referral) -> dt.datetime | None:
    """Nine o'clock of the day on which the waiting letter asks for the first follow-up, when that lies ahead."""
    letters = Letter.objects.unscoped("the letter that the reader is about to acknowledge").filter(
        referral=referral
    )
    waiting = (
        letters.filter(kind="outcome", acknowledged_at=None, disputed_at=None).order_by("-number").first()
    )
    day = str(waiting.content.get("follow_when") or "") if waiting else ""
    if not day or day <= clock.today().isoformat():
        return None
    return dt.datetime.combine(dt.date.fromisoformat(day), dt.time(9), clock.ZONE)
