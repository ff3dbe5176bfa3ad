"""The clinical statements of a section: entries with everything below them.

Chinese templates hang data elements in places CDA means for other things (a participant's playing entity with a DE code and a
``desc``); such are turned into observations of their own, so that a reader of the model finds every element the same way.
"""

from __future__ import annotations

from typing import Any

from lianxin.exchange.cda import datatypes as d
from lianxin.exchange.cda import elements
from lianxin.exchange.cda.model import Code, Entry, Party, Product, Range, Value

STATEMENTS = frozenset(
    {"observation", "organizer", "procedure", "substanceAdministration", "act", "encounter", "supply", "observationMedia",
     "regionOfInterest"}
)  # fmt: skip
_HOLDERS = frozenset({"entryRelationship", "component", "entry", "outboundRelationship", "sourceOf"})
_PARTIES = frozenset(
    {
        "author",
        "performer",
        "informant",
        "participant",
        "subject",
        "specimen",
        "responsibleParty",
        "dataEnterer",
    }
)
_CODES = {"interpretationCode": "interpretation", "methodCode": "method", "targetSiteCode": "site", "approachSiteCode": "site",
          "priorityCode": "priority", "routeCode": "route", "administrationUnitCode": "form"}  # fmt: skip
_VALUES = {
    "doseQuantity": "dose",
    "rateQuantity": "rate",
    "repeatNumber": "repeat",
    "quantity": "quantity",
    "expectedUseTime": "repeat",
}
_SILENT = frozenset({"templateId", "typeId", "realmCode", "seperatableInd", "separatableInd", "sequenceNumber", "uncertaintyCode",
                     "languageCode", "independentInd", "statusCode"})  # fmt: skip


def read(el: Any, place: str, kind: str, section: str, relation: str = "") -> Entry:
    """One statement. ``kind`` and ``section`` tell which data elements may be meant."""
    made = Entry(d.local(el.tag), place, relation=relation)
    made.mood = el.get("moodCode") or "EVN"
    made.klass = el.get("classCode") or ""
    made.negated = el.get("negationInd") == "true"
    unknown = 0
    for one in el:
        tag = d.local(one.tag)
        if tag == "code":
            made.code = d.code(one)
        elif tag == "value":
            made.values.append(d.value(one))
        elif tag in _HOLDERS:
            _below(one, made, kind, section)
        elif tag == "effectiveTime":
            if found := d.time(one):
                made.times.append(found)
        elif tag in _PARTIES:
            _party(one, made, kind, section)
        elif tag == "text":
            made.text = d.lines(one) or _referenced(one, el)
        elif tag == "id":
            if number := d.ident(one):
                made.ids.append(number)
        elif tag in _CODES:
            _coded(one, made, _CODES[tag])
        elif tag in _VALUES:
            if (said := d.value(one, "PQ")) or said.null:
                setattr(made, _VALUES[tag], said)
        elif tag == "referenceRange":
            made.ranges += _range(one)
        elif tag in ("consumable", "product"):
            made.product = _product(one)
        else:
            if tag == "statusCode":
                made.status = d.attribute(one, "code")
            elif tag == "templateId":
                made.templates.append(d.attribute(one, "root"))
            if tag not in _SILENT:
                unknown += 1
                made.rest += d.leftover(one, tag)
    label = made.code.display or made.code.text or next((o.text for o in made.code.others if o.text), "")
    made.element = elements.understand(kind, section, made.code.code, made.code.system, label)
    qualified = next((o.display for o in made.code.others if o.display and not o.code), "")
    made.label = label or (elements.name_of(made.element, kind) if made.element else made.code.code)
    if qualified and qualified not in made.label:
        made.label = f"{qualified}-{made.label}" if made.label else qualified
    return made


def _below(holder: Any, made: Entry, kind: str, section: str) -> None:
    for one in holder:
        if d.local(one.tag) in STATEMENTS:
            place = f"{made.place}/{d.local(one.tag)}[{len(made.parts) + 1}]"
            made.parts.append(read(one, place, kind, section, holder.get("typeCode") or ""))


def _referenced(text: Any, el: Any) -> str:
    """The narrative a ``<reference value="#id"/>`` points to."""
    reference = d.child(text, "reference")
    target = d.attribute(reference, "value").lstrip("#") if reference is not None else ""
    if not target:
        return ""
    for up in el.iterancestors():
        if d.local(up.tag) == "section":
            narrative = d.child(up, "text")
            if narrative is not None:
                for one in narrative.iter():
                    if one.get("ID") == target:
                        return d.words(one)
            return ""
    return ""


def _coded(el: Any, made: Entry, slot: str) -> None:
    found = d.code(el)
    if not found:
        return
    if slot == "interpretation":
        made.interpretation.append(found)
    elif getattr(made, slot):
        getattr(made, slot).others.append(found)
    else:
        setattr(made, slot, found)


def _range(el: Any) -> list[Range]:
    out = []
    for one in el:
        if d.local(one.tag) == "observationRange":
            made = Range()
            for part in one:
                tag = d.local(part.tag)
                if tag == "text":
                    made.text = d.words(part)
                elif tag == "value":
                    found = d.value(part)
                    if found.type in ("ST", "ED"):
                        made.text = made.text or found.text
                    elif found:
                        made.value = found
            if made.text or made.value:
                out.append(made)
    return out


def _product(el: Any) -> Product | None:
    made = Product()
    for one in el.iter():
        tag = d.local(one.tag)
        above = d.local(one.getparent().tag)
        if tag == "code" and not made.code:
            made.code = d.code(one)
        elif tag == "name" and above not in (
            "manufacturerOrganization",
            "asOrganizationPartOf",
            "wholeOrganization",
        ):
            made.name = made.name or d.words(one)
        elif tag == "lotNumberText":
            made.lot = d.words(one)
        elif tag == "id" and above != "manufacturerOrganization":
            if number := d.ident(one):
                made.ids.append(number)
        elif tag == "manufacturerOrganization":
            made.maker = d.words(one)
    return made if made else None


def _party(el: Any, made: Entry, kind: str, section: str) -> None:
    party = d.party(el)
    element = elements.understand(kind, section, party.thing.code, party.thing.system, party.thing.display)
    if element and elements.canonical(party.thing.code):
        _as_part(party, element, made, kind)
        party.thing, party.thing_text = Code(), ""
    if party:
        made.parties.append(party)


def _as_part(party: Party, element: str, made: Entry, kind: str) -> None:
    """A data element said in a participant, as an observation below the statement."""
    text = party.thing_text or party.name
    if not text:
        return
    if party.name == text:
        party.name = ""
    label = party.thing.display or elements.name_of(element, kind)
    made.parts.append(
        Entry(
            "observation", f"{made.place}/participant[{len(made.parts) + 1}]", element, label, party.thing,
            values=[Value("ST", text)], relation="COMP",
        )
    )  # fmt: skip
