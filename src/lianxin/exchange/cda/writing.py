"""A document of a kind from FHIR resources: valid CDA R2, elements in the order of its schema, a readable table in every section.

``write(kind, resources, header)`` makes the bytes; what stands in the body comes from :mod:`lianxin.exchange.cda.restoring`, by the
same tables that documents are read with.  :func:`header_of` makes the header from a Patient, an Encounter and the institution.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from lianxin.exchange.cda import restoring, serialising, values
from lianxin.exchange.cda.kinds import CODES, KINDS, Kind
from lianxin.exchange.cda.model import Code, Encounter, Header, Id, Org, Party, Patient, Related, Section
from lianxin.exchange.cda.reading import CARD, RECORD, RESIDENT_ID
from lianxin.index.golden import CARD_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.standards import clock

Json = dict[str, Any]

DOCUMENTS, INSTITUTIONS, PRACTITIONERS = "2.16.156.10011.1.1", "2.16.156.10011.1.5", "2.16.156.10011.1.4"
"""Roots of document numbers, institution codes and medical staff."""
_SEX = {"male": "1", "female": "2", "other": "9", "unknown": "0"}


def write(kind: Kind | str, resources: Iterable[Json], header: Header) -> bytes:
    """The document as UTF-8 XML.  ``kind`` is a kind or its number ("500.53"); unknown numbers raise ``KeyError``."""
    what = KINDS[kind] if isinstance(kind, str) else kind
    return render(what, header, restoring.sections(what, resources))


def render(kind: Kind, header: Header, sections: list[Section]) -> bytes:
    """A document from its header and its sections."""
    return serialising.document(kind, header, sections).encode("utf-8")


def header_of(
    patient: Json,
    *,
    id: Id | None = None,
    set_id: Id | None = None,
    version: int = 1,
    time: str = "",
    author: Json | None = None,
    organization: Json | None = None,
    encounter: Json | None = None,
    replaces: Id | None = None,
) -> Header:
    """The header of a document about ``patient``.  ``time`` is a FHIR instant (default: now); missing ids are made.

    ``author``: a Practitioner or a Reference with ``display`` and ``identifier``; ``organization``: an Organization;
    ``encounter``: the visit; ``replaces``: the id of the document this one takes the place of.
    """
    when = values.stamp(time or clock.now().isoformat(timespec="seconds"))
    made = Header(id=id or Id(DOCUMENTS, str(uuid.uuid4())), time=when, language="zh-CN")
    made.set_id, made.version = set_id or made.id, str(version)
    made.confidentiality = Code("N", "2.16.840.1.113883.5.25", "正常访问保密级别", "Confidentiality")
    made.patient = _patient(patient)
    org = _org(organization) if organization else None
    made.custodian = org
    writer = _author(author, when, org)
    made.authors = [writer]
    made.legal = Party("legalAuthenticator", "", when, writer.ids, name=writer.name, org=org)
    if encounter:
        made.encounter = _encounter(encounter, org)
        made.patient.ids += [i for i in made.encounter.ids if i not in made.patient.ids]
    if replaces:
        made.related = [Related("RPLC", replaces, made.set_id)]
    return made


def _id(identifier: Json) -> Id:
    system, value = identifier.get("system", ""), identifier.get("value", "")
    if system == RESIDENT_ID_SYSTEM:
        return Id(RESIDENT_ID, value)
    if system == CARD_SYSTEM:
        return Id(CARD, value)
    if system == "urn:ietf:rfc:3986":
        return Id(value.removeprefix("urn:uuid:").removeprefix("urn:oid:"))
    root = values.oid(system)
    return Id(root, value) if serialising.is_root(root) else Id("", value, root)


def _patient(told: Json) -> Patient:
    made = Patient(ids=[i for n in told.get("identifier", ()) if (i := _id(n))])
    for number in made.ids:
        if number.root == RESIDENT_ID:
            made.resident_id = number.extension
        elif number.root == CARD:
            made.card = number.extension
        elif number.root == RECORD:
            made.record_number = number.extension
    made.name = _name(told)
    code = _SEX.get(told.get("gender", ""), "0")
    made.sex = Code(
        code,
        "2.16.156.10011.2.3.3.4",
        {"1": "男性", "2": "女性", "9": "未说明的性别"}.get(code, "未知的性别"),
    )
    made.birth = values.stamp(told.get("birthDate", ""))
    if marital := told.get("maritalStatus"):
        made.marital = values.code_of(marital)
    for one in told.get("address", ()):
        parts = [one.get("state", ""), one.get("city", ""), one.get("district", ""), *one.get("line", ())]
        if text := one.get("text") or "".join(parts):
            made.addresses.append(text)
    made.phones = [t["value"] for t in told.get("telecom", ()) if t.get("value")]
    return made


def _name(told: Json) -> str:
    names = told.get("name", ())
    if isinstance(names, str):
        return names
    first: Json = next(iter(names), {})
    return first.get("text") or "".join([first.get("family", ""), *first.get("given", ())])


def _org(told: Json) -> Org:
    ids = (
        [i for n in told.get("identifier", ()) if (i := _id(n))]
        if isinstance(told.get("identifier"), list)
        else []
    )
    if isinstance(told.get("identifier"), dict):
        ids = [_id(told["identifier"])]
    return Org(
        [Id(i.root or INSTITUTIONS, i.extension) for i in ids], told.get("name") or told.get("display", "")
    )


def _author(told: Json | None, when: str, org: Org | None) -> Party:
    made = Party("author", "AUT", when, org=org)
    if told:
        numbers = told.get("identifier", ())
        numbers = [numbers] if isinstance(numbers, dict) else numbers
        made.ids = [Id(i.root or PRACTITIONERS, i.extension) for n in numbers if (i := _id(n))]
        made.name = _name(told) or told.get("display", "")
    return made


def _encounter(told: Json, org: Org | None) -> Encounter:
    made = Encounter(ids=[i for n in told.get("identifier", ()) if (i := _id(n))])
    klass = told.get("class", {})
    made.code = Code(klass.get("code", ""), "2.16.840.1.113883.5.4", klass.get("display", ""))
    if told.get("period"):
        made.time = values.interval(told["period"])
    places = [p.get("location", {}).get("display", "") for p in told.get("location", ())]
    made.location = Org(name=places[0], part_of=org) if places and places[0] else org
    if leaving := told.get("hospitalization", {}).get("dischargeDisposition"):
        made.discharge = values.code_of(leaving)
    return made


__all__ = ["CODES", "header_of", "render", "write"]
