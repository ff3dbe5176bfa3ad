"""A registration and its form on their way through the files of a load: opened again at a third of what their stored kinds cost.

For files of one run only: there is no version, and the fields stand in the order of the two classes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import fields
from operator import attrgetter
from typing import Any

import msgspec

from lianxin.index.form import COLUMNS, Form, Registration

_APART = ("institution_id", "system", "local_id", "patient_id")
"""What stands in columns of its own."""
_NAMES = tuple(f.name for f in fields(Registration))
_FIELDS = tuple(name for name in _NAMES if name not in _APART)
_DATES = tuple(_FIELDS.index(name) for name in ("birth_date", "deceased_on"))
_PATIENT = _NAMES.index("patient_id")
_registration = attrgetter(*_FIELDS)
_form = attrgetter(*(name for name, _ in COLUMNS))
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


def write(reg: Registration, form: Form) -> bytes:
    """Both as bytes."""
    values: list[Any] = [*_registration(reg), *_form(form)]
    for at in _DATES:
        date = values[at]
        values[at] = date.toordinal() if date else 0
    return _encode(values)


def read(
    body: bytes, institution_id: int, system: str, local_id: str, patient_id: str | None
) -> tuple[Registration, Form]:
    """The two that :func:`write` wrote."""
    values: list[Any] = _decode(body)
    for at in _DATES:
        values[at] = dt.date.fromordinal(values[at]) if values[at] else None
    form = Form(*values[len(_FIELDS) :])
    values[len(_FIELDS) :] = ()
    values[:0] = institution_id, system, local_id
    values.insert(_PATIENT, patient_id)
    return Registration(*values), form
