"""The golden record: for each field the best of what the sources say, with where it came from. Deterministic in the sources.

Per field: trust in the source's system, then an own identity number that proves it, then recency. Guardian's numbers never get
here (see :mod:`lianxin.index.facts`); a disputed source (its link is under review) is left out while others speak.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lianxin.access import seal
from lianxin.index import payload
from lianxin.index.facts import RESIDENT_ID, Facts, Registration, facts_of, read_id, tidy
from lianxin.index.models import Person, SourceRecord

SYSTEM_BASE = "http://lianxin.example/id"
RESIDENT_ID_SYSTEM = f"{SYSTEM_BASE}/resident-id-card"
CARD_SYSTEM = f"{SYSTEM_BASE}/health-card"
NUMBER_SYSTEM = f"{SYSTEM_BASE}/person-number"
TRUST = {"card-reader": 3, "police": 3, "insurance": 2}
"""Trust by what a source system's name contains; everything else is 1 (typed by hand)."""


@dataclass(slots=True)
class Spoken:
    """One source's word: its registration, when, and from which source row."""

    source_id: int
    received_at: dt.datetime
    reg: Registration
    facts: Facts
    disputed: bool = False

    def rank(self) -> tuple[int, bool, dt.datetime, int]:
        """Trust, proof, recency."""
        return self._trust(), self.facts.id_blind is not None, self.received_at, self.source_id

    def recent(self) -> tuple[int, dt.datetime, int]:
        """Trust, recency: for what changes in life (phone, address)."""
        return self._trust(), self.received_at, self.source_id

    def _trust(self) -> int:
        return max((t for word, t in TRUST.items() if word in self.reg.system), default=1)


def spoken(source: SourceRecord) -> Spoken:
    """A source row opened."""
    reg = payload.unpack(
        source.payload, source.institution_id, source.system, source.local_id, source.patient_id
    )
    return Spoken(source.pk, source.received_at, reg, facts_of(reg), source.disputed)


# columns of index_person that the golden record fills, in COPY order
COLUMNS = (
    "name", "sex", "birth_date", "id_type", "id_sealed", "id_blind", "phone_sealed", "phone_blind", "phone_tail",
    "address", "division", "village", "home_institution_id", "pinyin", "initials", "deceased_on", "golden",
)  # fmt: skip


@dataclass(slots=True)
class Golden:
    """The facts chosen among the sources, and which source each comes from."""

    facts: Facts
    chosen: dict[str, Spoken]

    def values(self) -> dict[str, Any]:
        """Column values of ``index_person`` (sealed anew at each call)."""
        facts, where = self.facts, self.chosen["address"].reg
        return {
            "name": facts.name,
            "sex": facts.sex,
            "birth_date": facts.birth_date,
            "id_type": facts.id_type,
            "id_sealed": seal.seal(facts.id_no),
            "id_blind": facts.id_blind,
            "phone_sealed": seal.seal(facts.phone),
            "phone_blind": facts.phone_blind,
            "phone_tail": facts.phone[-4:],
            "address": tidy(where.address)[:300],
            "division": where.division[:12],
            "village": tidy(where.village)[:80],
            "home_institution_id": self.chosen["home"].reg.home_institution_id,
            "pinyin": facts.pinyin,
            "initials": facts.initials,
            "deceased_on": self.chosen["deceased"].reg.deceased_on,
            "golden": {field: word.source_id for field, word in self.chosen.items()},
        }

    def row(self) -> list[Any]:
        """The same as a list in the order of :data:`COLUMNS`, JSON as text."""
        values = self.values()
        return [orjson.dumps(values[c]).decode() if c == "golden" else values[c] for c in COLUMNS]


def _resident_sex_birth(facts: Facts) -> tuple[str, dt.date | None]:
    if facts.id_type != RESIDENT_ID:
        return "", None
    _, _, birth, sex, _ = read_id(RESIDENT_ID, facts.id_no)
    return sex, birth


def compose(words: Sequence[Spoken]) -> Golden:
    """Choose each field among the sources (at least one)."""
    voices = [w for w in words if not w.disputed] or list(words)
    best = max(voices, key=Spoken.rank)
    if len(voices) == 1:
        chosen = dict.fromkeys(("name", "sex", "birth", "id", "phone", "address", "home", "deceased"), best)
    else:
        chosen = {
            "name": _choose(voices, lambda w: w.facts.name_key and not w.facts.newborn, Spoken.rank) or best,
            "sex": _choose(voices, lambda w: w.facts.sex in ("male", "female"), Spoken.rank) or best,
            "birth": _choose(voices, lambda w: w.facts.birth_date, Spoken.rank) or best,
            "id": _choose(voices, lambda w: w.facts.id_blind, Spoken.rank) or best,
            "phone": _choose(voices, lambda w: w.facts.phone, Spoken.recent) or best,
            "address": _choose(voices, lambda w: w.reg.address or w.reg.village, Spoken.recent) or best,
            "home": _choose(voices, lambda w: w.reg.home_institution_id, Spoken.recent) or best,
            "deceased": _choose(voices, lambda w: w.reg.deceased_on, Spoken.rank) or best,
        }
    named, ident, phone = chosen["name"].facts, chosen["id"].facts, chosen["phone"].facts
    sex, birth = chosen["sex"].facts.sex, chosen["birth"].facts.birth_date
    if sex == "unknown" or birth is None:
        id_sex, id_birth = _resident_sex_birth(ident)
        sex, birth = (id_sex or sex) if sex == "unknown" else sex, birth or id_birth
    facts = Facts(
        name=named.name,
        name_key=named.name_key,
        pinyin=named.pinyin,
        initials=named.initials,
        sex=sex,
        birth_date=birth,
        id_type=ident.id_type,
        id_no=ident.id_no,
        id_blind=ident.id_blind,
        phone=phone.phone,
        phone_blind=phone.phone_blind,
        address_key=chosen["address"].facts.address_key,
        village_key=chosen["address"].facts.village_key,
        newborn=named.newborn,
        placeholder=named.placeholder,
        deceased=chosen["deceased"].reg.deceased_on is not None,
    )
    return Golden(facts, chosen)


def _choose(voices: Sequence[Spoken], has: Any, rank: Any) -> Spoken | None:
    return max((w for w in voices if has(w)), key=rank, default=None)


def mask_name(name: str) -> str:
    """王小明 -> 王*明, 王明 -> 王*; Latin names keep each word's first letter."""
    if name.isascii():
        return " ".join(w[0] + "*" * min(3, len(w) - 1) for w in name.split())
    return name[:1] + "*" if len(name) <= 2 else name[0] + "*" * (len(name) - 2) + name[-1]


def mask_id(number: str) -> str:
    """First four and last two characters of an identity number."""
    return "" if not number else number[:4] + "*" * max(0, len(number) - 6) + number[-2:]


def mask_phone(number: str) -> str:
    """138****5678."""
    return "" if not number else number[:-8][:3] + "****" + number[-4:]


def golden_patient(person: Person) -> dict[str, Any]:
    """FHIR R4 Patient of a person as the index knows it; id = person number, ``link`` seealso to each source's Patient.

    A merged person is inactive and points to the one that replaced it. The caller has checked the scope.
    """
    number = seal.unseal(person.id_sealed)
    phone = seal.unseal(person.phone_sealed)
    identifiers: list[dict[str, Any]] = [
        {"use": "official", "system": NUMBER_SYSTEM, "value": person.number},
        {"use": "secondary", "system": CARD_SYSTEM, "value": person.card_number},
    ]
    if number:
        system = (
            RESIDENT_ID_SYSTEM
            if person.id_type == RESIDENT_ID
            else f"{SYSTEM_BASE}/document-{person.id_type}"
        )
        identifiers.append({"use": "official", "system": system, "value": number})
    links: list[dict[str, Any]] = []
    if person.merged_into_id is not None and person.merged_into is not None:
        links.append({"other": {"reference": f"Patient/{person.merged_into.number}"}, "type": "replaced-by"})
    sources = SourceRecord.objects.unscoped("links of a golden record").filter(
        person_id=person.pk, patient_id__isnull=False
    )
    links += [
        {"other": {"reference": f"Patient/{pid}"}, "type": "seealso"}
        for pid in sources.order_by("id").values_list("patient_id", flat=True)
    ]
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": person.number,
        "meta": {
            "versionId": str(person.version),
            "tag": [{"system": "http://lianxin.example/tag", "code": "golden"}],
        },
        "identifier": identifiers,
        "active": person.status == "active",
        "name": [{"use": "official", "text": person.name}],
        "gender": person.sex,
    }
    if phone:
        patient["telecom"] = [{"system": "phone", "value": phone}]
    if person.birth_date:
        patient["birthDate"] = person.birth_date.isoformat()
    if person.deceased_on:
        patient["deceasedDateTime"] = person.deceased_on.isoformat()
    where = {"text": person.address} if person.address else {}
    if person.division:
        where["postalCode" if len(person.division) == 5 else "district"] = person.division
    if where:
        patient["address"] = [{"use": "home", **where}]
    if person.home_institution_id is not None and person.home_institution is not None:
        patient["managingOrganization"] = {
            "reference": f"Organization/{person.home_institution.code}",
            "display": person.home_institution.name,
        }
    if links:
        patient["link"] = links
    return patient
