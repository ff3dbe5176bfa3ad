"""A clinical document from its bytes: every kind of WS/T 500 and WS/T 483, C-CDA, and any other CDA R2.

Schema-tolerant: sections may lack ``structuredBody``, parts may stand in any order and namespace, unknown parts are kept as
text.  What cannot be read at all is refused with :class:`~lianxin.exchange.feeds.errors.Refusal`, naming the place.
"""

from __future__ import annotations

from typing import Any

from lianxin.exchange.cda import datatypes as d
from lianxin.exchange.cda import elements, kinds, narrative, opening, statements
from lianxin.exchange.cda.model import (
    Code,
    Document,
    Encounter,
    Entry,
    Org,
    Patient,
    Related,
    Section,
)
from lianxin.exchange.feeds.errors import Refusal
from lianxin.standards.text import T

MOST_ENTRIES = 10_000
RESIDENT_ID, CARD, RECORD = "2.16.156.10011.1.3", "2.16.156.10011.1.19", "2.16.156.10011.1.2"
"""Roots of the resident identity number, the health card, the number of the health record (居民健康档案)."""
_CONTAINERS = frozenset({"component", "structuredBody", "bodyChoice", "body"})
_SILENT = frozenset({"typeId", "Signature", "realmCode", "templateId", "copyTime", "signatureText"})
_PEOPLE = {"authenticator": "authenticators", "participant": "participants", "informant": "informants",
           "informationRecipient": "recipients", "author": "authors"}  # fmt: skip


def read(data: bytes) -> Document:
    """The document in ``data``.  Refuses (code, place, both languages) what is no CDA, is unsafe or too large."""
    root, encoding, warnings = opening.tree(data)
    root = _document(root)
    made = Document(encoding=encoding, warnings=warnings)
    _first(root, made)
    counted = _Count()
    for one in root:
        tag = d.local(one.tag)
        if tag in _CONTAINERS or tag == "section":
            _body(one, made, made.sections, "", counted)
        else:
            _header(one, tag, made)
    if not made.sections and made.body is None:
        made.warnings.append(T("文档没有正文。", "The document has no body."))
    return made


class _Count:
    """How many entries were read, so that a document cannot become an endless number of resources."""

    def __init__(self) -> None:
        self.entries = 0

    def one(self, place: str) -> None:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise Refusal(
                "too-costly",
                T(
                    "条目超过 {n} 个，请分成几份文档。",
                    "There are more than {n} entries; split the document.",
                ).format(n=str(MOST_ENTRIES)),
                place,
            )


def _document(root: Any) -> Any:
    if d.local(root.tag) == "ClinicalDocument":
        return root
    found = [one for one in root.iter() if d.local(one.tag) == "ClinicalDocument"]
    if len(found) == 1:
        return found[0]
    raise Refusal(
        "structure",
        T("根元素是 {tag}，不是 ClinicalDocument；这里只接收 CDA R2 文档。",
          "The root element is {tag}, no ClinicalDocument; CDA R2 documents are taken here.").format(tag=d.local(root.tag)[:100])
        if not found
        else T("一次只能发送一份文档。", "Send one document at a time."),
        f"/{d.local(root.tag)[:100]}",
    )  # fmt: skip


def _first(root: Any, made: Document) -> None:
    """What has to be known before the rest can be understood: templates, code, title, and so the kind."""
    for one in root:
        tag = d.local(one.tag)
        if tag == "templateId":
            if template := d.attribute(one, "root"):
                made.templates.append(template)
        elif tag == "code" and not made.code:
            made.code = d.code(one)
        elif tag == "title" and not made.title:
            made.title = d.words(one)
    made.kind = kinds.find(made.templates, made.code.code, made.title or made.code.display)
    if made.kind is None:
        american = any(t.startswith("2.16.840.1.113883.10.20.") for t in made.templates)
        made.foreign = "c-cda" if american else "cda"


def _header(el: Any, tag: str, made: Document) -> None:
    if tag == "id":
        made.id = made.id or d.ident(el)
    elif tag == "setId":
        made.set_id = d.ident(el)
    elif tag == "versionNumber":
        made.version = d.attribute(el, "value") or d.words(el)
    elif tag == "effectiveTime":
        made.time = d.stamp(el)
    elif tag == "confidentialityCode":
        made.confidentiality = d.code(el)
    elif tag == "languageCode":
        made.language = d.attribute(el, "code")
    elif tag == "realmCode":
        made.realm = d.attribute(el, "code")
    elif tag == "recordTarget":
        made.patient = _patient(el)
    elif tag in _PEOPLE:
        if (party := d.party(el)) or party.time:
            getattr(made, _PEOPLE[tag]).append(party)
    elif tag == "legalAuthenticator":
        made.legal = d.party(el) or None
    elif tag == "dataEnterer":
        made.enterer = d.party(el) or None
    elif tag == "custodian":
        found = next(
            (one for one in el.iter() if d.local(one.tag) == "representedCustodianOrganization"), None
        )
        if found is not None:
            made.custodian = d.org(found) or None
    elif tag == "relatedDocument":
        made.related += _related(el)
    elif tag == "componentOf":
        for one in el:
            if d.local(one.tag) == "encompassingEncounter":
                made.encounter = _encounter(one) or None
    elif tag == "inFulfillmentOf":
        made.orders += [d.ident(one) for one in el.iter() if d.local(one.tag) == "id" and d.ident(one)]
    elif tag == "documentationOf":
        made.services += _services(el)
    elif tag not in _SILENT and tag not in ("code", "title"):
        made.rest += d.leftover(el, tag)


def _patient(el: Any) -> Patient:
    made = Patient()
    role = d.child(el, "patientRole")
    for one in el if role is None else role:
        tag = d.local(one.tag)
        if tag == "id":
            if number := d.ident(one):
                made.ids.append(number)
        elif tag == "addr":
            if text := d.address(one):
                made.addresses.append(text)
        elif tag == "telecom":
            if text := d.phone(one):
                made.phones.append(text)
        elif tag == "patient":
            _person(one, made)
        elif tag == "patientType":
            made.kind = next((found for part in one.iter() if (found := d.code(part))), Code())
        elif tag == "providerOrganization":
            made.provider = d.org(one) or None
    for number in made.ids:
        if number.root == RESIDENT_ID and number.extension:
            made.resident_id = made.resident_id or number.extension
        elif number.root == CARD and number.extension:
            made.card = made.card or number.extension
        elif number.root == RECORD and number.extension:
            made.record_number = made.record_number or number.extension
    return made


_CODED = {
    "administrativeGenderCode": "sex",
    "maritalStatusCode": "marital",
    "ethnicGroupCode": "ethnic",
    "raceCode": "ethnic",
}


def _person(el: Any, made: Patient) -> None:
    for one in el:
        tag = d.local(one.tag)
        if tag == "id":
            if number := d.ident(one):
                made.ids.append(number)
        elif tag == "name":
            made.name = made.name or d.name(one)
        elif tag in _CODED:
            if (found := d.code(one)) and not (tag == "raceCode" and made.ethnic):
                setattr(made, _CODED[tag], found)
        elif tag == "birthTime":
            made.birth = d.stamp(one)
        elif tag == "age":
            made.age = d.value(one, "PQ") or None
        elif tag == "employerOrganization":
            made.employer = d.org(one).name or d.words(one)
        elif tag == "guardian":
            made.guardian = d.party(_wrapped(one)) or None
        elif tag == "birthplace":
            made.birth_place = next(
                (t for p in one.iter() if d.local(p.tag) == "addr" and (t := d.address(p))), ""
            )
        elif tag.lower() in ("occupation", "occupationcode"):
            made.occupation = next((found for part in one.iter() if (found := d.code(part))), Code())
        elif tag.lower() in ("nationality", "nationalitycode"):
            made.nationality = next((found for part in one.iter() if (found := d.code(part))), Code())
        elif tag.lower().startswith("education"):
            made.education = next((found for part in one.iter() if (found := d.code(part))), Code())
        elif tag.lower() == "household":
            if text := d.address(next((p for p in one.iter() if d.local(p.tag) == "addr"), one)):
                made.addresses.append(text)
        elif tag.lower() == "nativeplace":
            made.birth_place = made.birth_place or d.words(one)


def _wrapped(el: Any) -> Any:
    """A role that stands without its participation, put into one so that it is read like the others."""
    holder = el.makeelement("guardian")
    copy = el.__copy__()
    holder.append(copy)
    return holder


def _related(el: Any) -> list[Related]:
    out = []
    for one in el:
        if d.local(one.tag) == "parentDocument":
            made = Related(d.attribute(el, "typeCode") or "RPLC")
            for part in one:
                tag = d.local(part.tag)
                if tag == "id":
                    made.id = made.id or d.ident(part)
                elif tag == "setId":
                    made.set_id = d.ident(part)
                elif tag == "versionNumber":
                    made.version = d.attribute(part, "value")
            if made.id or made.set_id:
                out.append(made)
    return out


def _encounter(el: Any) -> Encounter:
    made = Encounter()
    for one in el:
        tag = d.local(one.tag)
        if tag == "id":
            if number := d.ident(one):
                made.ids.append(number)
        elif tag == "code":
            made.code = d.code(one)
        elif tag == "effectiveTime":
            made.time = d.time(one)
        elif tag == "dischargeDispositionCode":
            made.discharge = d.code(one)
        elif tag == "location":
            made.location = _location(one)
        elif tag in ("responsibleParty", "encounterParticipant") and (party := d.party(one)):
            made.parties.append(party)
    return made


def _location(el: Any) -> Org | None:
    """Bed, room, ward, department and hospital as the templates nest them."""
    found: Org | None = None
    for one in el.iter():
        tag = d.local(one.tag)
        if tag == "serviceProviderOrganization":
            return d.org(one) or found
        if tag == "healthCareFacility":
            ids = [d.ident(part) for part in one if d.local(part.tag) == "id" and d.ident(part)]
            name = next(
                (
                    d.words(part)
                    for p in one
                    if d.local(p.tag) == "location"
                    for part in p
                    if d.local(part.tag) == "name"
                ),
                "",
            )
            found = Org(ids, name) if ids or name else None
    return found


def _services(el: Any) -> list[Entry]:
    out = []
    for one in el:
        if d.local(one.tag) in ("serviceEvent", "actRef"):
            made = statements.read(one, "documentationOf/serviceEvent", "", "")
            if made.code or made.times or made.parties or made.ids:
                out.append(made)
    return out


def _body(el: Any, made: Document, into: list[Section], place: str, counted: _Count) -> None:
    """The sections below an element, whatever they are wrapped in."""
    tag = d.local(el.tag)
    if tag == "section":
        section = _section(el, made, f"{place}section[{len(into) + 1}]", counted)
        if not (
            section.title
            or section.text
            or section.entries
            or section.sections
            or section.code
            or section.rest
        ):
            return
        into.append(section)
        return
    loose = [one for one in el if d.local(one.tag) == "entry"]
    if loose:
        section = Section(place=f"{place}section[{len(into) + 1}]")
        for one in loose:
            _entries(one, made, section, counted)
        into.append(section)
    for one in el:
        name = d.local(one.tag)
        if name == "section" or name in _CONTAINERS:
            _body(one, made, into, place, counted)
        elif name == "nonXMLBody":
            made.body = next((d.value(t, "ED") for t in one if d.local(t.tag) == "text"), None)
        elif name != "entry":
            made.rest += d.leftover(one, name) if name not in _SILENT else []


def _section(el: Any, document: Document, place: str, counted: _Count) -> Section:
    made = Section(place=place)
    kind = document.kind.number if document.kind else ""
    for one in el:
        tag = d.local(one.tag)
        if tag == "code":
            made.code = d.code(one)
        elif tag == "title":
            made.title = d.words(one)
    made.key = elements.section_key(
        made.code.code, made.code.system, made.title, made.code.display, made.code.text
    )
    made.title = made.title or (made.code.display if not made.code.display.isascii() else "")
    made.title = made.title or elements.TITLES.get(made.key, "") or made.code.display or made.code.text
    for one in el:
        tag = d.local(one.tag)
        if tag == "entry":
            _entries(one, document, made, counted)
        elif tag == "text":
            made.text, made.html = narrative.both(one)
        elif tag in _CONTAINERS:
            _body(one, document, made.sections, f"{place}/", counted)
        elif tag == "templateId":
            made.templates.append(d.attribute(one, "root"))
        elif tag == "id":
            if number := d.ident(one):
                made.ids.append(number)
        elif tag in ("author", "informant", "subject"):
            if party := d.party(one):
                made.parties.append(party)
        elif tag in statements.STATEMENTS:
            counted.one(place)
            made.entries.append(
                statements.read(one, f"{place}/{tag}[{len(made.entries) + 1}]", kind, made.key)
            )
        elif tag not in ("code", "title", "confidentialityCode", "languageCode", "typeId", "realmCode"):
            made.rest += d.leftover(one, tag)
    return made


def _entries(el: Any, document: Document, section: Section, counted: _Count) -> None:
    kind = document.kind.number if document.kind else ""
    for one in el:
        tag = d.local(one.tag)
        if tag in statements.STATEMENTS:
            place = f"{section.place}/entry[{len(section.entries) + 1}]/{tag}"
            made = statements.read(one, place, kind, section.key, el.get("typeCode") or "")
            for _ in made.walk():
                counted.one(place)
            section.entries.append(made)
        elif tag not in ("templateId", "typeId", "realmCode"):
            section.rest += d.leftover(one, tag)
