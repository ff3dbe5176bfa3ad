"""The golden record: for each field the best of what the sources say, with where it came from. Deterministic in the sources.

The rules are data (``survivorship.yaml``, read by :mod:`lianxin.index.survivorship`). Numbers of guardians never get here as the
person's own (see :mod:`lianxin.index.normal.documents`); a disputed source (its link is under review) is left out while others
speak. :func:`fields` shows every value with its source, why it was chosen, and what the others say.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from lianxin.access import seal
from lianxin.index import payload
from lianxin.index.facts import RESIDENT_ID, id_blind, name_key, phone_blind, tidy
from lianxin.index.form import NAMED, Form, Registration, form_of
from lianxin.index.models import Person, SourceRecord
from lianxin.index.normal import names, phones
from lianxin.index.normal.documents import OWN
from lianxin.index.survivorship import FIELDS, WHY, Chosen, Spoken, choose, class_of
from lianxin.network.models import Institution
from lianxin.standards import pinyin
from lianxin.standards.text import T, Text

__all__ = ["COLUMNS", "FIELDS", "Field", "Golden", "Spoken", "compose", "fields", "golden_patient", "spoken"]

SYSTEM_BASE = "http://lianxin.example/id"
RESIDENT_ID_SYSTEM = f"{SYSTEM_BASE}/resident-id-card"
CARD_SYSTEM = f"{SYSTEM_BASE}/health-card"
NUMBER_SYSTEM = f"{SYSTEM_BASE}/person-number"
_SEX = ("", "male", "female")


def spoken(source: SourceRecord) -> Spoken:
    """A source row opened."""
    reg = payload.unpack(
        bytes(source.payload), source.institution_id, source.system, source.local_id, source.patient_id
    )
    return Spoken(source.pk, source.received_at, reg, form_of(reg), source.disputed)


# columns of index_person that the golden record fills, in COPY order
COLUMNS = (
    "name", "sex", "birth_date", "id_type", "id_sealed", "id_blind", "phone_sealed", "phone_blind", "phone_tail",
    "address", "division", "village", "home_institution_id", "pinyin", "initials", "deceased_on", "contact_source_id",
)  # fmt: skip


def _name(word: Spoken) -> str:
    """A name as it is shown: as typed where that is the name and no more, else without suffixes and brackets."""
    typed = tidy(word.reg.name) or tidy(f"{word.reg.given} {word.reg.family}")
    form = word.form
    if form.kind != NAMED or typed.isascii() or "?" in form.name:
        return typed[:200]
    return typed[:200] if names.bare(typed) == form.name else form.name


def _date(day: int) -> dt.date | None:
    return dt.date(day // 10000, day // 100 % 100, day % 100) if day % 10000 else None


def phone_told(phone: str) -> dict[str, Any]:
    """Columns that tell a phone, but for the sealed one."""
    return {"phone_blind": phone_blind(phone) if phone else None, "phone_tail": phone[-4:]}


def phone_sealed(reg: Registration, form: Form) -> str:
    """The phone as a registration wrote it, sealed anew at each call."""
    return seal.seal(phones.shown(reg.phone, form.phone))


def address_told(reg: Registration) -> dict[str, Any]:
    """Columns that tell an address."""
    return {
        "address": tidy(reg.address)[:300],
        "division": reg.division[:12],
        "village": tidy(reg.village)[:80],
    }


@dataclass(slots=True)
class Golden:
    """For each field the source that it comes from; a field that nobody speaks of comes from the best source and is empty."""

    chosen: dict[str, Spoken]

    def _number(self) -> str:
        form = self.chosen["id"].form
        return form.id_no if form.id_state in (OWN, 4) else ""

    def bare(self) -> dict[str, Any]:
        """Column values without those that are sealed or follow from the name: enough to see whether anything changed."""
        chosen = self.chosen
        form, where = chosen["id"].form, chosen["address"].reg
        number = self._number()
        own = form.id_state == OWN
        said = chosen["sex"]
        sex = _SEX[said.form.sex] or (said.reg.sex if said.reg.sex == "other" else "unknown")
        if sex == "unknown" and own:
            sex = "male" if int(number[16]) % 2 else "female"
        born = _date(chosen["birth"].form.born) or (_date(int(number[6:14])) if own else None)
        name, phone = _name(chosen["name"]), chosen["phone"].form.phone
        home = chosen["home"].reg.home_institution_id
        return {
            "name": name,
            "sex": sex,
            "birth_date": born,
            "id_type": form.id_type if number else "",
            "id_blind": id_blind(form.id_type, number) if number else None,
            **phone_told(phone),
            **address_told(where),
            "home_institution_id": home,
            "deceased_on": _date(chosen["deceased"].form.died),
            "contact_source_id": chosen["contact"].source_id if "contact" in chosen else None,
        }

    def values(self, same: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, Any]:
        """Column values of ``index_person`` (sealed anew at each call); ``same``: columns known to stay as they are."""
        out, phone = self.bare(), self.chosen["phone"]
        name = out["name"]
        if "id_sealed" not in same:
            out["id_sealed"] = seal.seal(self._number())
        if "phone_sealed" not in same:
            out["phone_sealed"] = phone_sealed(phone.reg, phone.form)
        if "pinyin" not in same:
            key = name_key(name)
            out["pinyin"] = (pinyin.full(name) or key)[:400]
            out["initials"] = (pinyin.initials(name) or key)[:120]
        out.update(same)
        return out

    def row(self) -> list[Any]:
        """The same as a list in the order of :data:`COLUMNS`."""
        values = self.values()
        return [values[c] for c in COLUMNS]


def compose(words: Sequence[Spoken]) -> Golden:
    """Choose each field among the sources (at least one)."""
    voices = [w for w in words if not w.disputed] or list(words)
    if len(voices) == 1:
        only = voices[0]
        return Golden(
            {name: only for name in FIELDS if name != "contact" or only.form.mother or only.reg.guardian_name}
        )
    return Golden({name: found.word for name, found in _choose(voices).items() if found is not None})


def _choose(voices: Sequence[Spoken], others: bool = False) -> dict[str, Chosen | None]:
    """The choice for every field; a field without a word is "only" the best source's (None for a contact)."""
    chosen: dict[str, Chosen | None] = {"id": choose("id", voices, None, others)}
    own = _own(chosen["id"])
    for name in FIELDS:
        if name != "id":
            chosen[name] = choose(name, voices, own, others)
    best = chosen["id"] or chosen["name"]
    first = best.word if best else max(voices, key=lambda w: (w.trust, w.received_at, w.source_id))
    for name in FIELDS:
        if chosen[name] is None and name != "contact":
            chosen[name] = Chosen(first, "", [])
    return chosen


def _own(found: Chosen | None) -> Form | None:
    form = found.word.form if found else None
    return form if form is not None and form.id_type == RESIDENT_ID and form.id_state == OWN else None


class Other(NamedTuple):
    """What another source says of a field."""

    value: str
    institution: str
    when: dt.datetime


class Field(NamedTuple):
    """One field of the golden record for people to see; identity numbers and phones masked."""

    field: str
    label: Text
    value: str
    institution: str
    source: Text
    when: dt.datetime
    why: Text
    others: list[Other]


LABELS: dict[str, Text] = {
    "name": T("姓名", "Name"),
    "sex": T("性别", "Sex"),
    "birth": T("出生日期", "Birth date"),
    "id": T("证件号", "Identity number"),
    "phone": T("电话", "Phone"),
    "address": T("住址", "Address"),
    "home": T("管理机构", "Home institution"),
    "deceased": T("死亡日期", "Date of death"),
    "contact": T("联系人", "Contact"),
}
_SEXES = {"male": T("男", "male"), "female": T("女", "female"), "other": T("其他", "other")}


def _shown(name: str, word: Spoken, institutions: dict[int, str]) -> str:
    """A source's value of a field as people may see it."""
    reg, form = word.reg, word.form
    if name == "name":
        return _name(word)
    if name == "sex":
        return str(_SEXES.get(_SEX[form.sex] or reg.sex, ""))
    if name in ("birth", "deceased"):
        date = _date(form.born if name == "birth" else form.died)
        return date.isoformat() if date else ""
    if name == "id":
        return mask_id(form.id_no) if form.id_state in (OWN, 4) else ""
    if name == "phone":
        return mask_phone(form.phone) if form.phone else ""
    if name == "address":
        return tidy(f"{reg.address} {reg.village}" if reg.village not in reg.address else reg.address)
    if name == "home":
        return institutions.get(reg.home_institution_id or 0, "")
    return tidy(reg.mother_name) or tidy(reg.guardian_name) or form.mother


def fields(person: Person) -> list[Field]:
    """Every golden field of a person with its source, why it was chosen, and what others say (the caller checked the scope)."""
    rows = list(
        SourceRecord.objects.unscoped("sources of a golden record").filter(person_id=person.pk).order_by("id")
    )
    if not rows:
        return []
    words = [spoken(row) for row in rows]
    voices = [w for w in words if not w.disputed] or words
    ids = {w.reg.institution_id for w in words} | {w.reg.home_institution_id for w in words}
    institutions = dict(Institution.objects.filter(pk__in=[i for i in ids if i]).values_list("pk", "name"))
    out = []
    for name, found in _choose(voices, others=True).items():
        if found is None or not (value := _shown(name, found.word, institutions)):
            continue
        reg = found.word.reg
        others = [
            Other(shown, institutions.get(w.reg.institution_id, ""), w.received_at)
            for w in found.others
            if (shown := _shown(name, w, institutions))
        ]
        where = institutions.get(reg.institution_id, "")
        label = class_of(reg.system).label
        out.append(
            Field(name, LABELS[name], value, where, label, found.word.received_at, WHY[found.why], others)
        )
    order = list(LABELS)
    return sorted(out, key=lambda f: order.index(f.field))


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
    if contact := _contact(person):
        patient["contact"] = [contact]
    if links:
        patient["link"] = links
    return patient


_RELATIONSHIP = "http://terminology.hl7.org/CodeSystem/v2-0131"
_ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


def _contact(person: Person) -> dict[str, Any] | None:
    """The mother or guardian that a source named, as FHIR's contact party; never with the child's own identifiers."""
    source_id = person.contact_source_id
    if source_id is None:
        return None
    source = (
        SourceRecord.objects.unscoped("contact of a golden record")
        .filter(pk=source_id, person_id=person.pk)
        .first()
    )
    if source is None:
        return None
    word = spoken(source)
    mother = tidy(word.reg.mother_name) or word.form.mother
    guardian = tidy(word.reg.guardian_name)
    name, code, text = (guardian, "GUARD", "监护人") if guardian else (mother, "MTH", "母亲")
    if not name:
        return None
    coding = [{"system": _RELATIONSHIP, "code": "N"}, {"system": _ROLE, "code": code}]
    return {"relationship": [{"coding": coding, "text": text}], "name": {"text": name}}
