"""A registration in comparable form: everything the matcher looks at, flat and made of text and whole numbers only.

``form_of`` is pure and costs some ten microseconds. An empty text or a zero means: not known (missing, a filler, unreadable);
nothing is ever guessed. What each normaliser does stands in :mod:`lianxin.index.normal`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import msgspec

from lianxin.index.normal import dates, documents, names, phones, places
from lianxin.index.normal.generic import NOTHING, Generic

__all__ = [
    "COLUMNS",
    "HAN",
    "LATIN",
    "MINORITY",
    "NAMED",
    "NEWBORN",
    "NOTHING",
    "PLACEHOLDER",
    "Form",
    "Generic",
    "Registration",
    "form_of",
    "form_with_notes",
    "pack",
    "readings",
    "unpack",
]

NAMED, NEWBORN, PLACEHOLDER = names.NAMED, names.NEWBORN, names.PLACEHOLDER
HAN, LATIN, MINORITY = names.HAN, names.LATIN, names.MINORITY


@dataclass
class Registration:
    """What one system of an institution says about one person. ``id_type`` "" means: see for yourself.

    ``birth_text`` is a date as typed when it is no ISO date; ``family``/``given`` are for names written in Latin letters;
    ``guardian_*`` and ``mother_*`` are somebody else's particulars and never the person's own.
    """

    institution_id: int
    system: str
    local_id: str
    name: str
    sex: str = "unknown"
    birth_date: dt.date | None = None
    id_type: str = ""
    id_no: str = ""
    phone: str = ""
    address: str = ""
    division: str = ""
    village: str = ""
    home_institution_id: int | None = None
    card: str = ""
    deceased_on: dt.date | None = None
    patient_id: str | None = None
    phone2: str = ""
    guardian_name: str = ""
    guardian_id_no: str = ""
    mother_name: str = ""
    mother_id_no: str = ""
    birth_text: str = ""
    family: str = ""
    given: str = ""
    birth_certificate: str = ""
    birth_order: int = 0
    former_name: str = ""


@dataclass(slots=True)
class Form:
    """A registration in comparable form; see the glossary of fields in docs/how-to/index-normalising.md."""

    name: str = ""
    surname: str = ""
    given: str = ""
    kind: int = NAMED
    script: int = HAN
    pinyin: str = ""
    fuzzy: str = ""
    shape: str = ""
    mother: str = ""
    mother_id: str = ""
    twin: int = 0
    sex: int = 0
    born: int = 0
    born_default: int = 0
    lunar: int = 0
    id_type: str = ""
    id_no: str = ""
    id_state: int = 0
    phone: str = ""
    phone2: str = ""
    card: str = ""
    county: str = ""
    town: str = ""
    village: str = ""
    house: str = ""
    deceased: int = 0
    died: int = 0
    birth_cert: str = ""
    former: str = ""


COLUMNS: tuple[tuple[str, str], ...] = tuple(
    (f.name, "int" if f.type in ("int", int) else "text") for f in fields(Form)
)
"""Field names in order, with the SQL type that the batch engines load them as."""

_SEX = {"male": 1, "female": 2}


def form_of(reg: Registration, generic: Generic = NOTHING) -> Form:
    """Comparable form of a registration; values that ``generic`` knows to say nothing are left out."""
    return form_with_notes(reg, generic)[0]


def form_with_notes(reg: Registration, generic: Generic = NOTHING) -> tuple[Form, list[str]]:
    """The same, with codes of what was odd (see docs/how-to/index-normalising.md)."""
    notes: list[str] = []
    now = dates.today()
    born, born_default, lunar = dates.read(reg.birth_date, reg.birth_text, notes, now)
    if generic.births and f"{reg.institution_id}:{born}" in generic.births:
        notes.append("born_generic")
        born = born_default = lunar = 0
    read = names.read(reg.name, reg.family, reg.given, (now - born) // 10000 if born else -1)
    if read.kind:
        notes.append("newborn" if read.kind == NEWBORN else "placeholder")
    mother_id = documents.number(reg.mother_id_no, now)
    guardian_id = documents.number(reg.guardian_id_no, now)
    if generic.ids:
        mother_id = "" if mother_id in generic.ids else mother_id
        guardian_id = "" if guardian_id in generic.ids else guardian_id
    doc = documents.read(reg.id_type, reg.id_no, born, now, notes, (mother_id, guardian_id), generic)
    if doc.state == documents.OWN and _belied(doc, read.kind, born, born_default, now):
        notes.append("id_not_own")
        doc = doc._replace(state=documents.OTHERS)
    card = documents.card(reg.card)
    if len(card) == 18 and documents.valid(
        card, now
    ):  # many places use the identity number as the insurance number
        if doc.state == documents.NONE:
            doc = documents.read("", card, born, now, notes, (mother_id, guardian_id), generic)
        card = ""
    sex = _SEX.get(reg.sex, 0)
    if doc.state == documents.OWN:
        if not born:
            born, born_default, lunar = doc.born, dates.OF_NUMBER, dates.to_solar(doc.born)
        elif born != doc.born:
            notes.append("born_differs")
        if sex and sex != doc.sex:
            notes.append("sex_differs")
        sex = sex or doc.sex
    elif doc.state == documents.OTHERS and not (mother_id or guardian_id):
        guardian_id = doc.number
    certificate = documents.card(reg.birth_certificate)
    if doc.type == documents.BIRTH_CERTIFICATE and not certificate:
        certificate = doc.number
    phone, second = phones.both(reg.phone, generic)
    if reg.phone and not phone:
        notes.append("phone_filler")
    if reg.phone2:
        second = phones.read(reg.phone2, generic) or second
    where = places.read(reg.address, reg.division, reg.village)
    died = dates.packed(reg.deceased_on)
    if died > now:
        notes.append("died_future")
        died = 0
    return Form(
        read.name,
        read.surname,
        read.given,
        read.kind,
        read.script,
        read.pinyin,
        read.fuzzy,
        read.shape,
        names.key(reg.mother_name) or read.mother or names.key(reg.guardian_name),
        mother_id or guardian_id,
        reg.birth_order or read.twin,
        sex or read.sex,
        born,
        born_default,
        lunar,
        doc.type,
        doc.number,
        doc.state,
        phone or second,
        second if phone and second != phone else "",
        card,
        where.county,
        where.town,
        where.village,
        where.house,
        1 if died else 0,
        died,
        certificate,
        names.key(reg.former_name) or read.former,
    ), notes


def _belied(doc: documents.Document, kind: int, born: int, born_default: int, now: int) -> bool:
    """Whether a valid resident number is somebody else's by its birth date: no slip or lunar calendar leads from it to the one that was
    told, or the bearer is a newborn and the number is not (who lends a card, or types one for a stranger, tells the stranger's date)."""
    if not born:
        return kind == NEWBORN and (now - doc.born) // 10000 >= documents.OWN_ID_YEARS
    return born != doc.born and not born_default and dates.apart(born, doc.born)


def readings(form: Form) -> tuple[str, ...]:
    """Other full readings of the name than ``form.pinyin`` (at most four): what a clerk may have heard or typed."""
    return names.readings(form.name, form.script, form.pinyin)


_VERSION = 1
_values = attrgetter(*(name for name, _ in COLUMNS))
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


# places in a packed form, the version being first
_PLACE = {name: at for at, (name, _) in enumerate(COLUMNS, 1)}
_NAME, _FUZZY, _SHAPE = _PLACE["name"], _PLACE["fuzzy"], _PLACE["shape"]
_DIGITS = _PLACE["id_no"], _PLACE["phone"], _PLACE["county"]


def pack(form: Form) -> bytes:
    """A form as bytes (versioned; equal forms give equal bytes). What follows from another field is left out, and numbers are
    written as such: a fifth less."""
    values: list[Any] = [_VERSION, *_values(form)]
    name = form.name
    if form.shape == name:
        values[_SHAPE] = None
    if form.fuzzy == form.pinyin:
        values[_FUZZY] = None
    if form.surname + form.given == name:
        values[_NAME] = None
    for at in _DIGITS:
        text = values[at]
        if text.isdecimal() and text[0] != "0" and len(text) <= 18 and text.isascii():
            values[at] = int(text)
    return _encode(values)


def unpack(body: bytes) -> Form:
    """The form that :func:`pack` wrote; raises ValueError for another version or foreign bytes."""
    values: list[Any] = _decode(body)
    if values[0] != _VERSION:
        raise ValueError(f"packed form of version {values[0]}, this is {_VERSION}")
    form = Form(*values[1:])
    if form.name is None:
        form.name = form.surname + form.given
    if form.shape is None:
        form.shape = form.name
    if form.fuzzy is None:
        form.fuzzy = form.pinyin
    if type(form.id_no) is int:
        form.id_no = str(form.id_no)
    if type(form.phone) is int:
        form.phone = str(form.phone)
    if type(form.county) is int:
        form.county = str(form.county)
    return form
