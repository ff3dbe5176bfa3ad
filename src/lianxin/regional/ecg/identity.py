"""Whose is it? What a device's file says of its patient, held against the person of the order. Pure but for the index's own rows."""

from __future__ import annotations

import datetime as dt
import re

from lianxin.index.facts import id_blind
from lianxin.index.models import Person, SourceRecord
from lianxin.regional.ecg.importing import Patient
from lianxin.regional.reading.models import Reading

_CJK = re.compile(r"[\u3400-\u9fff]")
AHEAD, BEHIND = dt.timedelta(minutes=2), dt.timedelta(hours=2)


def problem(said: Patient, reading: Reading) -> str:
    """Why this file may not be attached to the order's person ("": it may). Sex alone never decides where the number fits."""
    person = reading.person
    known = bool(said.id) and _knows(said.id, person, reading)
    if said.id and not known:
        return "wrong_id"
    if _CJK.search(said.name) and _bare(said.name) != _bare(person.name):
        return "wrong_name"
    if said.birth and person.birth_date and said.birth != person.birth_date:
        return "wrong_birth"
    if said.sex and person.sex in ("male", "female") and said.sex != person.sex and not known:
        return "wrong_sex"
    return ""


def _bare(name: str) -> str:
    return re.sub(r"[\s^=·•]", "", name)


def _knows(number: str, person: Person, reading: Reading) -> bool:
    number = number.strip()
    if number in (
        reading.accession,
        reading.requisition,
        reading.case.number,
        person.number,
        person.card_number,
    ):
        return True
    if person.id_blind is not None and bytes(person.id_blind) == id_blind(person.id_type, number.upper()):
        return True
    rows = SourceRecord.objects.unscoped("is this the person's own number at the performing institution?")
    places = (reading.performer_id, reading.orderer_id, reading.centre_of_id)
    return bool(rows.filter(person_id=person.pk, local_id=number, institution_id__in=places).exists())


def clock_flag(device_at: dt.datetime | None, received: dt.datetime, ordered: dt.datetime) -> str:
    """Is the device's clock to be believed? ("": yes). A recording made long before its order is either old or from a slow clock."""
    if device_at is None:
        return "no_clock"
    if device_at > received + AHEAD:
        return "clock_future"
    return "clock_past" if device_at < ordered - BEHIND else ""
