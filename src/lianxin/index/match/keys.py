"""Keys that bring together registrations of one person: two that share none are never compared.

A key is a keyed digest of "kind|value", so that the table of keys tells nobody's birth date. Nothing that is missing or a
placeholder makes a key. About nine a registration; a person's other spellings and documents add theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from struct import unpack

from lianxin.access import seal
from lianxin.index.form import LATIN, MINORITY, NAMED, NEWBORN, Form, readings
from lianxin.index.normal import dates, names
from lianxin.index.normal.latin import phonetic


@cache
def _key() -> bytes:
    return seal.key("index-keys")


@cache
def _keyed() -> Callable[[], blake2b]:
    """Copies of a digest that has taken its key already: half of what taking it each time costs."""
    return blake2b(digest_size=4, key=_key()).copy


def digests_of(form: Form) -> list[bytes]:
    """The keys as they come out of the digest: 4 bytes each, big-endian and signed, each once."""
    fresh, out = _keyed(), []
    for value in values_of(form):
        made = fresh()
        made.update(value.encode())
        out.append(made.digest())
    return list(dict.fromkeys(out))


def _large(value: str) -> int:
    return int.from_bytes(blake2b(value.encode(), digest_size=8, key=_key()).digest(), "big", signed=True)


def values_of(form: Form) -> list[str]:
    """The keys in clear ("kind|value"), for tests and the batch engines."""
    out: list[str] = []
    born = form.born
    year, month_day = born // 10000, born % 10000
    day = str(born) if month_day % 100 and form.born_default != dates.FILLED else ""
    place = form.town or form.county
    if form.id_no:
        out.append(f"i|{form.id_type}|{form.id_no}")
        if form.id_type == "01" and len(form.id_no) == 18:
            out.append(f"s|{form.id_no[6:17]}")
    if form.card:
        out.append(f"c|{form.card}")
    if form.birth_cert:
        out.append(f"b|{form.birth_cert}")
    phones = [p for p in (form.phone, form.phone2) if p]
    if form.kind == NAMED and form.pinyin:
        sounds = (form.pinyin, *readings(form))
        if form.script == LATIN:
            sounds = (form.pinyin, form.name)
            out += _latin(form, day, month_day)
        for sound in dict.fromkeys(sounds):
            if year:
                out.append(f"y|{sound}|{year}")
                if day:
                    out.append(f"d|{sound}|{month_day}")
            if place:
                out.append(f"t|{sound}|{place}")
            if form.village:
                out.append(f"t|{sound}|{form.village}")
        if form.script == MINORITY and year:
            out.append(f"r|{''.join(sorted(form.name))}|{year}")
        if form.former and year:
            out.append(f"y|{names.read(form.former).pinyin}|{year}")
        if day:
            out.append(f"n|{form.surname}|{day}|{form.sex}")
        out += [f"u|{form.surname}|{phone}" for phone in phones]
    if year:
        out += [f"p|{phone}|{year}" for phone in phones]
    if day:
        if form.village or place:
            out.append(f"a|{day}|{form.village or place}")
        if form.mother_id:
            out.append(f"m|{form.mother_id}|{day}")
        if form.mother:
            out.append(f"w|{form.mother}|{day}")
    if form.mother:
        out += [f"q|{form.mother}|{phone}" for phone in phones]
    if form.kind == NEWBORN and form.mother_id:
        out.append(f"x|{form.mother_id}|{year}")
    return list(dict.fromkeys(out))


def _latin(form: Form, day: str, month_day: int) -> list[str]:
    """Keys of a name in Latin letters, whose parts are often misspelt on their own."""
    out = [f"o|{form.shape}"]
    for part in {form.given, form.surname}:
        if not part:
            continue
        head = phonetic[part]
        if day:
            out.append(f"o|{part[:1]}|{day}")
        if form.born:
            out.append(f"o|{head}|{form.born // 100}")
            out.append(f"o|{head}|{month_day}")
        if form.county or form.town:
            out.append(f"o|{head}|{form.county or form.town}")
        if form.village:
            out.append(f"o|{head}|{form.village[:6]}")
    if form.house and form.village:
        out.append(f"o|{form.house}|{form.village[:6]}")
    return out


def keys_of(form: Form) -> list[int]:
    """Signed 32-bit keys of a registration, each once; empty when it says nothing that could find anybody."""
    found = digests_of(form)
    return list(unpack(f">{len(found)}i", b"".join(found)))


def locks_of(form: Form) -> list[int]:
    """Signed 64-bit locks, ascending: two registrations of one new person at the same moment share at least one of them."""
    out = []
    if form.id_no:
        out.append(f"i|{form.id_type}|{form.id_no}")
    if form.card:
        out.append(f"c|{form.card}")
    if form.birth_cert:
        out.append(f"b|{form.birth_cert}")
    if form.kind == NAMED and form.pinyin and form.born:
        out.append(f"n|{form.pinyin}|{form.born}")
    if form.born and form.kind != NAMED:
        out += [f"m|{mother}|{form.born}" for mother in (form.mother_id, form.mother) if mother]
    return sorted({_large(value) for value in out})
