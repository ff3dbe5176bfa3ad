"""Printing: the 转诊单 as people know it on paper (存根 · 转出单 · 回转单), and the outcome letter. A4, QR, page numbers.

Official forms are Chinese whatever the language of the screen. Fields follow the basic public health service form of the
third edition (to confirm) as listed in referral_rules.md.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
from typing import Any

import segno
from django.template.loader import render_to_string

from lianxin.clinical.referral import reasons, rules
from lianxin.clinical.referral.models import Leg, Letter, Referral
from lianxin.index import registry
from lianxin.network.kinds import SEXES
from lianxin.standards import clock, codes, paper
from lianxin.standards.text import Text

WHY = "printing a referral that the caller has been allowed to see"
SPECIALTIES = "http://lianxin.example/cs/specialty"
DIRECTIONS = {"up": "上转", "down": "下转", "across": "平级转诊"}
PRIORITIES = {"routine": "常规", "urgent": "优先", "emergency": "急诊"}


def gb_date(at: dt.datetime | dt.date | None) -> str:
    """A date as official documents write it: 2026年3月2日."""
    if at is None:
        return ""
    day = at.astimezone(clock.ZONE).date() if isinstance(at, dt.datetime) else at
    return f"{day.year}年{day.month}月{day.day}日"


def gb_moment(at: dt.datetime | None) -> str:
    """Date and time: 2026年3月2日 09:00."""
    return f"{gb_date(at)} {at.astimezone(clock.ZONE):%H:%M}" if at else ""


def qr(text: str) -> str:
    """A QR code as an SVG data URI."""
    out = io.BytesIO()
    segno.make(text, error="m").save(out, kind="svg", border=0, xmldecl=False, svgns=True, dark="#111")
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def _person(referral: Referral) -> dict[str, str]:
    person = referral.person
    return {
        "name": person.name,
        "sex": SEXES[person.sex].zh,
        "age": f"{registry.age_on(person.birth_date, clock.today())}岁" if person.birth_date else "",
        "birth": gb_date(person.birth_date),
        "number": person.number,
        "card": person.card_number,
        "address": f"{person.address}{person.village if person.village and person.village not in person.address else ''}",
        "phone": f"尾号 {person.phone_tail}" if person.phone_tail else "",
        "home": person.home_institution.name if person.home_institution else "",
    }


def _outcome(referral: Referral) -> dict[str, Any]:
    """The latest outcome letter for the return slip, or blanks to fill in by hand."""
    letters = (
        Letter.objects.unscoped(WHY)
        .filter(referral=referral, kind="outcome")
        .select_related("institution", "practitioner")
    )
    letter = letters.order_by("-number").first()
    if letter is None:
        return {}
    return {
        **letter.content,
        "follow_when": gb_date(dt.date.fromisoformat(letter.content["follow_when"]))
        if letter.content.get("follow_when")
        else "",
        "doctor": letter.author,
        "phone": letter.institution.phone,
        "institution": letter.institution.name,
        "date": gb_date(letter.sent_at),
        "acknowledged": gb_date(letter.acknowledged_at),
    }


def context(referral: Referral) -> dict[str, Any]:
    """Everything the paper shows."""
    pack = referral.pack
    parts = [
        (part.label.zh, pack[code])
        for code, part in rules.PARTS.items()
        if pack.get(code) and code not in ("impression", "present", "past", "treatment")
    ]
    legs = (
        Leg.objects.unscoped(WHY).filter(referral=referral).select_related("institution").order_by("number")
    )
    doctor = referral.from_practitioner
    return {
        "r": referral,
        "number": referral.case.number,
        "qr": qr(referral.case.number),
        "person": _person(referral),
        "direction": DIRECTIONS[referral.direction],
        "priority": PRIORITIES[referral.case.priority],
        "specialty": codes.label(SPECIALTIES, referral.specialty).zh if referral.specialty else "",
        "reason": reasons.label("refer", referral.reason_code).zh if referral.reason_code else "",
        "origin": referral.from_institution,
        "target": referral.to_institution,
        "department": referral.to_department.name if referral.to_department else "",
        "doctor": doctor.name if doctor else "",
        "doctor_phone": (doctor.phone if doctor else "") or referral.from_institution.phone,
        "date": gb_date(referral.submitted_at or referral.case.opened_at),
        "appointment": gb_moment(referral.appointment_at),
        "appointment_note": referral.appointment_note,
        "arranged": _arranged(referral),
        "pack": pack,
        "parts": parts,
        "path": [leg.institution.name for leg in legs],
        "outcome": _outcome(referral),
        "consortium": referral.consortium.name if referral.consortium else "",
        "printed": gb_moment(clock.now()),
        "draft": referral.submitted_at is None,
    }


def _arranged(referral: Referral) -> list[str]:
    """The lines of a joint plan as the paper shows them: when, what, where, how to prepare."""
    from lianxin.clinical.referral.pages_view import plan_lines

    lines = plan_lines(referral).get("plan_lines", [])
    return [
        f"{gb_moment(line['at'])} {_zh(line['what'])} {line['where']}"
        + (f"（{_zh(line['prepare'])}）" if line.get("prepare") else "")
        for line in lines
    ]


def _zh(words: Any) -> str:
    return words.zh if isinstance(words, Text) else str(words)


def _whole(referral: Referral) -> Referral:
    rows = Referral.objects.unscoped(WHY).select_related(
        "case",
        "person__home_institution",
        "from_institution",
        "to_institution",
        "to_department",
        "from_practitioner",
        "consortium",
    )
    return rows.get(pk=referral.pk)


def html(referral: Referral) -> str:
    """The form as HTML (what the PDF is made of)."""
    return render_to_string("referral/print/form.html", context(_whole(referral)))


def pdf(referral: Referral) -> bytes:
    """The 转诊单 as PDF, A4. The caller has checked that the reader may have it and writes the audit."""
    return paper.pdf(html(referral))


def letter_pdf(letter: Letter) -> bytes:
    """One letter (outcome, advice, interim, ward round) as PDF, A4."""
    from lianxin.clinical.referral.publish import LETTER_TYPES, TITLES

    referral = _whole(letter.referral)
    lines = [(TITLES.get(name, name), text) for name, text in letter.content.items() if text]
    page = context(referral) | {
        "title": LETTER_TYPES[letter.kind][2],
        "lines": lines,
        "author": letter.author,
        "institution": letter.institution,
        "sent": gb_moment(letter.sent_at),
        "acknowledged": gb_moment(letter.acknowledged_at),
        "acknowledged_by": letter.acknowledged_by,
    }
    return paper.pdf(render_to_string("referral/print/letter.html", page))
