"""Paper of consultations: the opinion (远程会诊意见书) and the consent form. Official forms are Chinese whatever the screen's language."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string

from lianxin.clinical.referral.print import gb_date, gb_moment, qr
from lianxin.duty.models import Case
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.kinds import SEXES
from lianxin.network.models import Institution
from lianxin.regional.consult import guards
from lianxin.regional.consult.models import Agreed, Consult, Material, Opinion
from lianxin.standards import clock, paper

WHY = "printing a consultation that the caller has been allowed to see"


def who(person: Person) -> dict[str, str]:
    """The person as a form names them."""
    return {
        "name": person.name, "sex": SEXES[person.sex].zh, "number": person.number,
        "age": f"{registry.age_on(person.birth_date, clock.today())}岁" if person.birth_date else "",
    }  # fmt: skip


def context(case: Case, consult: Consult) -> dict[str, Any]:
    """Everything the opinion's paper shows."""
    rows = (
        Opinion.objects.unscoped(WHY)
        .filter(consult=consult)
        .select_related("seat", "institution", "practitioner")
    )
    newest: dict[int | None, Opinion] = {}
    for row in rows.order_by("version"):
        newest[row.seat_id] = row
    summary = newest.pop(None, None)
    return {
        "c": consult, "case": case, "person": who(case.patient), "qr": qr(f"lianxin:consult/{case.number}"), "summary": summary,
        "opinions": sorted(newest.values(), key=lambda o: o.seat.number if o.seat else 0),
        "seats": [s for s in guards.seats(consult) if s.state != "left"], "signed": gb_moment(summary.signed_at) if summary else "",
        "asked": gb_moment(consult.requested_at), "began": gb_moment(consult.begun_at), "printed": gb_moment(clock.now()),
        "agreed": Agreed.objects.unscoped(WHY).defer("scan").filter(pk=consult.pk).first(),
        "materials": Material.objects.unscoped(WHY).filter(consult=consult).order_by("pk"),
    }  # fmt: skip


def opinion(case: Case, consult: Consult) -> bytes:
    """The opinion as PDF."""
    return paper.pdf(render_to_string("consult/print/opinion.html", context(case, consult)))


def consent(person: Person, institution_id: int | None) -> bytes:
    """The consent form to be signed, as PDF."""
    place = Institution.objects.filter(pk=institution_id or 0).first()
    return paper.pdf(
        render_to_string(
            "consult/print/consent.html",
            {
                "person": who(person),
                "institution": place.name if place else "",
                "date": gb_date(clock.today()),
            },
        )
    )
