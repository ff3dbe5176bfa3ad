"""The Composition of a document, its Encounter, and the small things every resource of it has: people, ranges, notes."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error
from html import escape
from typing import Any

from lianxin.exchange.cda import values
from lianxin.exchange.cda.kinds import CODES
from lianxin.exchange.cda.model import Document, Entry, Id, Org, Party, Range, Section, Value

Json = dict[str, Any]

OUTPATIENT, INPATIENT = "2.16.156.10011.1.11", "2.16.156.10011.1.12"
"""Roots of 门(急)诊号 and 住院号."""
LARGEST = 1_000_000
"""Characters of base64 kept in a resource; the original document keeps them all."""
_XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">'
_RELATIONS = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}
_CONFIDENTIALITY = frozenset("ULMNRV")
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_EMPTY = "http://terminology.hl7.org/CodeSystem/list-empty-reason"
_CLASSES = {"AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"}


def identifier(one: Id) -> Json:
    """An II as an Identifier."""
    if one.extension:
        made: Json = {"value": one.extension}
        return {"system": values.system(one.root), **made} if one.root else made
    uri = f"urn:uuid:{one.root.lower()}" if "-" in one.root else values.system(one.root)
    return {"system": "urn:ietf:rfc:3986", "value": uri}


def person(party: Party) -> Json:
    """Whoever took part as a Reference: number and name, no resource of its own."""
    made: Json = {}
    number = next((i for i in party.ids if i.extension), None)
    if number:
        made["identifier"] = identifier(number)
    name = party.name or (party.org.name if party.org else "") or party.function.label
    if name:
        made["display"] = name
    elif not made:
        made["display"] = "未说明"
    return made


def organization(org: Org, reference: str = "") -> Json:
    """An organisation as a Reference."""
    made: Json = {"reference": reference} if reference else {}
    number = next((i for o in org.chain() for i in o.ids if i.extension), None)
    if number and not reference:
        made["identifier"] = identifier(number)
    name = "/".join(o.name for o in org.chain() if o.name)
    return {**made, "display": name} if name else made


def reference_range(one: Range) -> Json:
    """A reference range; bounds that are no numbers become its text."""
    made: Json = {}
    if one.value:
        name, found, _ = values.fhir(one.value)
        if name == "valueRange":
            made.update(found)
        elif name == "valueQuantity" and "comparator" not in found:
            made["low"] = made["high"] = found
        elif name:
            made["text"] = one.value.text or (found if isinstance(found, str) else "")
    if one.text:
        made["text"] = one.text
    return {k: v for k, v in made.items() if v}


def notes(entry: Entry, *, times: bool = False) -> list[Json]:
    """What an entry says without a place of its own in its resource. ``times``: the resource has none for times either."""
    said: list[str] = []
    if entry.text and (entry.values or entry.tag == "organizer"):
        said.append(entry.text)
    for party in entry.parties:
        if party.role == "performer" and not times and entry.tag != "organizer":
            continue
        words = [
            party.function.label,
            party.name,
            party.org.name if party.org else "",
            party.thing.label,
            party.thing_text,
        ]
        who = " ".join(dict.fromkeys(w for w in words if w))
        if who:
            said.append(f"{party.role}：{who}")
    if times:
        said += [t for one in entry.times if (t := _time(one))]
        said += [c.label for c in (entry.method, entry.site) if c]
    if entry.priority:
        said.append(entry.priority.label)
    if entry.tag != "substanceAdministration":
        slots = (
            ("dose", entry.dose),
            ("rate", entry.rate),
            ("repeat", entry.repeat),
            ("quantity", entry.quantity),
        )
        said += [f"{name}：{v.text} {v.unit}".strip() for name, v in slots if v and v.text]
        if entry.product:
            said.append(
                "：".join(
                    filter(
                        None, ("product", entry.product.name or entry.product.code.label, entry.product.lot)
                    )
                )
            )
    said += [f"{place}：{text}" for place, text in entry.rest]
    return [{"text": text} for text in said]


def _time(value: Value) -> str:
    if value.low or value.high:
        return " – ".join(values.instant(v.text) or v.text for v in (value.low, value.high) if v and v.text)
    return values.instant(value.text) or value.text


def attachment(value: Value, title: str) -> Json:
    """A file inside the document; of a large one only size and digest (the document itself is kept whole)."""
    made: Json = {"contentType": value.media_type or "application/octet-stream"}
    try:
        raw = b64decode(value.data, validate=True)
    except (Error, ValueError):
        raw = b""
    if raw and len(value.data) <= LARGEST:
        made["data"] = value.data
    made["size"] = len(raw)
    made["hash"] = b64encode(hashlib.sha1(raw, usedforsecurity=False).digest()).decode()
    if title:
        made["title"] = title
    return made


def encounter(document: Document, subject: Json, source: str, reference: str) -> Json | None:
    """The visit or stay of a document; ``_key`` is what it is known by in other documents too."""
    stay = document.encounter
    setting = document.kind.setting if document.kind else ""
    wanted = (INPATIENT, OUTPATIENT) if setting not in ("AMB", "EMER") else (OUTPATIENT, INPATIENT)
    numbers = [i for root in wanted for i in document.patient.ids if i.root == root and i.extension]
    ids = [*(stay.ids if stay else []), *numbers]
    if stay is None and not numbers:
        return None
    code = stay.code.code.upper() if stay else ""
    if code not in _CLASSES:
        first = next((i.root for i in numbers), "")
        code = setting or ("IMP" if first == INPATIENT else "AMB")
    made: Json = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": _ACT, "code": code},
        "subject": subject,
    }
    if ids:
        made["identifier"] = [identifier(i) for i in {str(i): i for i in ids}.values()]
        known = next(iter(numbers), ids[0])
        made["_key"] = f"{source}|Encounter|{known}"
    period = values.period(stay.time) if stay and stay.time else {}
    period = period or _stay(document)
    if period:
        made["period"] = period
    if code == "IMP" and "end" not in period:
        made["status"] = "unknown"
    if stay and stay.code.code and stay.code.code.upper() not in _CLASSES:
        made["type"] = [values.concept(stay.code)]
    if stay and stay.discharge:
        made["hospitalization"] = {"dischargeDisposition": values.concept(stay.discharge)}
    if stay and stay.location:
        places = [
            o.name or next((i.extension for i in o.ids if i.extension), "") for o in stay.location.chain()
        ]
        display = "/".join(p for p in reversed(places) if p)
        if display:
            made["location"] = [{"location": {"display": display}}]
    provider = organization(document.custodian or Org(), reference)
    if provider:
        made["serviceProvider"] = provider
    return made


def _stay(document: Document) -> Json:
    """Admission and discharge from the elements that say them."""
    made: Json = {}
    if document.kind is None or document.kind.setting == "AMB":
        return made
    for entry in document.entries():
        name = {"DE06.00.092.00": "start", "DE06.00.017.00": "end"}.get(entry.element)
        if name and entry.values and (when := values.instant(entry.values[0].text)):
            made.setdefault(name, when)
    if len(made) == 2 and made["end"][:10] < made["start"][:10]:
        del made["end"]
    return made


def composition(
    document: Document, subject: Json, visit: Json | None, sections: list[Json], reference: str
) -> Json:
    """The Composition, without its id."""
    kind = document.kind
    made: Json = {"resourceType": "Composition"}
    if document.id:
        made["identifier"] = identifier(document.id)
    replaces = any(r.type == "RPLC" for r in document.related)
    made["status"] = "amended" if replaces else "final"
    made["type"] = _type(document)
    made["subject"] = subject
    if visit:
        made["encounter"] = visit
    author = next((a.time for a in document.authors if values.instant(a.time)), "")
    made["date"] = values.instant(document.time) or values.instant(author) or "1900"
    made["author"] = [person(a) for a in document.authors if a] or [
        organization(document.custodian or Org(), reference) or {"display": "未说明"}
    ]
    made["title"] = document.title or (kind.zh if kind else "") or document.code.label or "临床文档"
    if document.confidentiality.code.upper() in _CONFIDENTIALITY:
        made["confidentiality"] = document.confidentiality.code.upper()
    if attesters := _attesters(document):
        made["attester"] = attesters
    if custodian := organization(document.custodian or Org(), reference):
        made["custodian"] = custodian
    related = [
        {"code": _RELATIONS.get(r.type, "transforms"), "targetIdentifier": identifier(r.id or r.set_id)}
        for r in document.related
    ]
    if related:
        made["relatesTo"] = related
    events = [e for s in document.services if (e := _event(s))]
    if events:
        made["event"] = events
    if sections:
        made["section"] = sections
    return made


def _type(document: Document) -> Json:
    kind = document.kind
    if kind is None:
        return values.concept(document.code, document.title) or {"text": document.title or "临床文档"}
    codings: list[Json] = [{"system": values.system(CODES), "code": kind.code, "display": kind.zh}]
    if kind.loinc:
        codings.append({"system": "http://loinc.org", "code": kind.loinc})
    return {"coding": codings, "text": kind.zh}


def _attesters(document: Document) -> list[Json]:
    out = []
    for mode, party in [("legal", document.legal), *(("professional", a) for a in document.authenticators)]:
        if party is None or not (party.name or party.ids or party.org):
            continue
        one: Json = {"mode": mode}
        if when := values.instant(party.time):
            one["time"] = when
        one["party"] = person(party)
        if party.function.label and party.name:
            one["party"]["display"] = f"{party.name}（{party.function.label}）"
        out.append(one)
    return out


def _event(service: Entry) -> Json:
    made: Json = {}
    if code := values.concept(service.code):
        made["code"] = [code]
    if service.times and (period := values.period(service.times[0])):
        made["period"] = period
    return made


def section(told: Section, refs: list[Json], below: list[Json]) -> Json | None:
    """A section of the Composition; None when it says nothing at all."""
    made: Json = {}
    if told.title:
        made["title"] = told.title
    if code := values.concept(told.code, told.title if told.code.code else ""):
        made["code"] = code
    html = told.html + "".join(f"<p>{_escaped(f'{place}：{text}')}</p>" for place, text in told.rest)
    html += "".join(f"<p>{_escaped(f'{p.role}：{p.name}')}</p>" for p in told.parties if p.name)
    if html:
        made["text"] = {"status": "additional", "div": f"{_XHTML}{html}</div>"}
    if refs:
        made["entry"] = refs
    if below:
        made["section"] = below
    if not (html or refs or below):
        if not made:
            return None
        made["text"] = {"status": "generated", "div": f"{_XHTML}<p>无内容</p></div>"}
        made["emptyReason"] = {"coding": [{"system": _EMPTY, "code": "unavailable"}]}
    return made


def extra(document: Document) -> Json | None:
    """What stands outside every section and has no place in FHIR, as a section of its own."""
    lines = [f"{place}：{text}" for place, text in document.rest]
    for label, code in (("患者类型", document.patient.kind), ("文化程度", document.patient.education)):
        if code:
            lines.append(f"{label}：{code.label}")
    if document.body is not None and document.body.text:
        lines += document.body.text.splitlines()
    if not lines:
        return None
    html = "".join(f"<p>{_escaped(line)}</p>" for line in lines if line.strip())
    return {"title": "其他", "text": {"status": "additional", "div": f"{_XHTML}{html}</div>"}}


def _escaped(text: str) -> str:
    return escape(text, quote=False)


def report(
    document: Document, service: str, reference: str, results: list[Json], conclusions: list[str]
) -> Json:
    """A DiagnosticReport over what a report document found; about whom and when is for the caller."""
    kind = document.kind
    code = {"system": values.system(CODES), "code": kind.code, "display": kind.zh} if kind else {}
    made: Json = {
        "resourceType": "DiagnosticReport", "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": service}]}],
        "code": {"coding": [code], "text": document.title or (kind.zh if kind else "报告")},
    }  # fmt: skip
    if reference:
        made["performer"] = [{"reference": reference}]
    if results:
        made["result"] = results
    if conclusions:
        made["conclusion"] = "\n".join(conclusions)
    return made
