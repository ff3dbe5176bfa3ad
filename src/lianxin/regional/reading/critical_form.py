"""Reporting a critical value from the editor: what was found, in the words of the critical values' own catalogue."""

from __future__ import annotations

from typing import Any

from django import forms

from lianxin.access.scope import Scope
from lianxin.duty.errors import Refused
from lianxin.regional.critical import limits
from lianxin.regional.critical import service as critical
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T

SOURCES = {"imaging": "reading", "ecg": "ecg", "pathology": "pathology", "laboratory": "laboratory"}
OTHER = "OTHER"


class CriticalForm(forms.Form):
    """Which finding of the catalogue (or another one), and the words that are read back."""

    code = forms.ChoiceField(label=T("危急值项目", "Critical finding"))
    finding = forms.CharField(
        label=T("发现（告知与复述的内容）", "Finding (what is told and read back)"), max_length=150
    )

    def __init__(self, *args: Any, source: str = "reading", institution_id: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        code = self.fields["code"]
        assert isinstance(code, forms.ChoiceField)
        code.choices = [
            *limits.findings(source, institution_id), (OTHER, T("其他危急发现", "Another critical finding"))
        ]  # fmt: skip


def form_for(reading: Reading, data: Any = None) -> CriticalForm:
    """The form with the findings of the study's centre."""
    return CriticalForm(data, source=SOURCES[reading.centre], institution_id=reading.centre_of_id)


def amended(by: Scope, reading: Reading, conclusion: str, reason: str, version: int) -> None:
    """Show at the open calls of a study that its report was amended: the new conclusion, and why."""
    critical.corrected(
        by, source=SOURCES[reading.centre], case_id=reading.pk, value=" ".join(conclusion.split()) or "—", reason=reason,
        key=f"reading:{reading.pk}:{version}",
    )  # fmt: skip


def report(by: Scope, reading: Reading, data: Any, key: str) -> str:
    """Hand it to the room of critical values; returns the number of the call. Raises Refused, NotAllowed."""
    form = form_for(reading, data)
    if not form.is_valid():
        raise Refused({
            name: T("危急值：请填写完整。", "Critical value: fill it in.") for name in form.errors
        })  # fmt: skip
    made = critical.report(
        by, person_id=reading.person_id, source=SOURCES[reading.centre], case_id=reading.pk,
        reading_accession=reading.accession, finding=form.cleaned_data["finding"].strip(), code=form.cleaned_data["code"],
        value="", found_at=clock.now(), orderer=reading.orderer, centre_of=reading.centre_of, key=key,
    )  # fmt: skip
    return str(made.case.number)
