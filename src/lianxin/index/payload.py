"""A registration as a source record keeps it: every field as it came, packed small and sealed.

The columns of the row (institution, system, local id, FHIR id) are not repeated inside. Fields stand in a fixed order and empty
ones at the end are left out, so that a field added later changes neither old payloads nor their digests.
"""

from __future__ import annotations

import datetime as dt
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec

from lianxin.access import seal
from lianxin.index.form import Registration

FIELDS = (
    "name", "sex", "birth_date", "id_type", "id_no", "phone", "address", "division", "village", "home_institution_id", "card",
    "deceased_on", "phone2", "guardian_name", "guardian_id_no", "mother_name", "mother_id_no", "birth_text", "family", "given",
    "birth_certificate", "birth_order", "former_name",
)  # fmt: skip
"""What a payload holds, in order: new fields are added at the end, none is ever removed."""

DIGEST = 8
_SEX = ("unknown", "male", "female", "other")
_SEX_AT = FIELDS.index("sex")
_DATES = tuple(FIELDS.index(name) for name in ("birth_date", "deceased_on"))
_NUMBERS = tuple(FIELDS.index(name) for name in ("id_no", "phone", "division"))
_EMPTY = (None, "", 0)
_values = attrgetter(*FIELDS)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


def plain(reg: Registration) -> bytes:
    """The payload before it is sealed: equal registrations give equal bytes."""
    values: list[Any] = list(_values(reg))
    sex = values[_SEX_AT]
    values[_SEX_AT] = _SEX.index(sex) if sex in _SEX else 0
    for at in _DATES:
        date = values[at]
        values[at] = date.toordinal() if date else 0
    for at in _NUMBERS:
        text = values[at]
        if text and text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 18:
            values[at] = int(text)
    for at, value in enumerate(values):
        if value and type(value) is str and not value.isascii():
            values[at] = value.encode("gb18030")  # two bytes a Chinese character, and nothing it cannot write
    while values and values[-1] in _EMPTY:
        values.pop()
    return _encode(values)


def digest(body: bytes) -> bytes:
    """Keyed digest of a plain payload: whether a source says the same again."""
    return blake2b(body, digest_size=DIGEST, key=seal.key("registration")).digest()


def sealed(body: bytes) -> bytes:
    """The payload as it is stored."""
    return seal.seal_bytes(body)


def unpack(
    stored: bytes,
    institution_id: int = 0,
    system: str = "",
    local_id: str = "",
    patient_id: str | None = None,
) -> Registration:
    """The registration inside a source record; the columns of its row are given by whoever read them."""
    return read(seal.unseal_bytes(bytes(stored)), institution_id, system, local_id, patient_id)


def read(
    body: bytes,
    institution_id: int = 0,
    system: str = "",
    local_id: str = "",
    patient_id: str | None = None,
) -> Registration:
    """The registration of a plain payload."""
    values: list[Any] = _decode(body)
    for at in _NUMBERS:
        if at < len(values) and type(values[at]) is int:
            values[at] = str(values[at])
    for at, value in enumerate(values):
        if type(value) is bytes:
            values[at] = value.decode("gb18030")
    known = dict(zip(FIELDS, values, strict=False))
    known["sex"] = _SEX[known.get("sex", 0)]
    for name in ("birth_date", "deceased_on"):
        known[name] = dt.date.fromordinal(known[name]) if known.get(name) else None
    if known.get("home_institution_id", 1) is None:
        del known["home_institution_id"]
    return Registration(institution_id, system, local_id, patient_id=patient_id, **known)
