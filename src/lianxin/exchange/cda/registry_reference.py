"""A document's entry in the record: DocumentReference with its Binary, as IHE MHD (ITI-65) would have them."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from lianxin.access.seal import sm3
from lianxin.exchange.cda.model import Code, Document, Id, Party, Related, Value
from lianxin.exchange.cda.registry_people import URI, identifier
from lianxin.network.models import Institution
from lianxin.standards import clock

FAMILIES = "http://lianxin.example/cs/document-family"
FORMATS = "http://lianxin.example/cs/document-format"
C_CDA_FORMATS = "http://terminology.hl7.org/CodeSystem/v3-HL7DocumentFormatCodes"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SM3 = "http://lianxin.example/fhir/StructureDefinition/attachment-sm3"
READ = {"system": "http://lianxin.example/cs/document-registry", "code": "read"}
"""Tag of a DocumentReference whose content was read into the record."""
WST500, WST483, CCDA, CDA, OTHER = "WS/T 500", "WS/T 483", "C-CDA", "CDA", "other"
FAMILY_NAMES = {
    WST500: "电子病历共享文档", WST483: "健康档案共享文档", CCDA: "C-CDA", CDA: "CDA R2", OTHER: "其他文档",
}  # fmt: skip
LABELS = {"R": "restricted", "V": "very restricted"}
XML = "application/xml"
RELATIONS = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}
OID = re.compile(r"[0-2](?:\.\d+)+")
_TS = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.\d+)?([+-]\d{4})?$")


def instant(ts: str) -> dt.datetime | None:
    """A TS as an aware datetime (parts that are not said are the first; no zone: ours); None when it is none."""
    found = _TS.match(ts.strip().replace("-", "", 2) if ts[4:5] == "-" else ts.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, zone = found.groups()
    try:
        made = dt.datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)
        )
        if not zone:
            return made.replace(tzinfo=clock.ZONE)
        return dt.datetime.strptime(f"{made:%Y%m%d%H%M%S}{zone}", "%Y%m%d%H%M%S%z")
    except ValueError:
        return None


def family_of(document: Document) -> str:
    """Which family of documents it belongs to."""
    if document.kind is not None:
        return WST500 if document.kind.number.startswith("500") else WST483
    return CCDA if document.foreign == "c-cda" else CDA


def kind_of(document: Document) -> str:
    """Its kind as the inbox and the lists call it: "WS/T 500.7", "C-CDA 34133-9"."""
    if document.kind is not None:
        return f"WS/T {document.kind.number}"
    return f"{family_of(document)} {document.code.code[:40]}".strip()


def title_of(document: Document) -> str:
    """What a reader calls it."""
    shown = document.title.strip() or (document.kind.zh if document.kind else "") or document.code.label
    return " ".join(shown.split())[:200] or "CDA"


def confidentiality_of(document: Document) -> str:
    """R or V when it says so (v3-Confidentiality, or the words vendors put there), else ""."""
    code = document.confidentiality.code.strip().upper()
    if code in LABELS:
        return code
    label = document.confidentiality.label
    return "V" if "非常" in label and "限制" in label else "R" if "限制" in label or "机密" in label else ""


@dataclass(frozen=True)
class Place:
    """Where an entry stands: ids of DocumentReference and Binary, the Patient, the institution; its visit and its Composition."""

    reference: str
    binary: str
    patient: str
    institution: Institution
    encounter: str = ""
    composition: str = ""


def binary(place: Place, body: bytes, media: str = XML) -> dict[str, Any]:
    """The bytes as they came; whoever may see the DocumentReference may have them."""
    return {
        "resourceType": "Binary",
        "id": place.binary,
        "contentType": media,
        "securityContext": {"reference": f"DocumentReference/{place.reference}"},
        "data": base64.b64encode(body).decode(),
    }


def reference(
    document: Document, place: Place, body: bytes, targets: dict[str, str], media: str = XML
) -> dict[str, Any]:
    """The DocumentReference. ``targets``: ids of DocumentReferences known here by the number of a related document."""
    own = f"urn:lianxin:mr:{place.institution.code}"
    written = instant(document.time)
    family = family_of(document)
    secret = confidentiality_of(document)
    labels = [{"system": CONFIDENTIALITY, "code": secret, "display": LABELS[secret]}] if secret else []
    made: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "id": place.reference,
        "meta": {"tag": [READ], "security": labels},
        "language": "zh-CN" if document.kind else "",
        "masterIdentifier": identifier(document.id, own),
        "identifier": _identifiers(document, own),
        "status": "current",
        "docStatus": "final" if document.legal or document.kind is None else "preliminary",
        "type": _type(document),
        "category": [{"coding": [{"system": FAMILIES, "code": family}], "text": FAMILY_NAMES[family]}],
        "subject": {"reference": f"Patient/{place.patient}"},
        "date": (written or clock.now()).isoformat(timespec="seconds"),
        "author": [a for a in map(_author, document.authors) if a],
        "authenticator": _author(document.legal) if document.legal else None,
        "custodian": {
            "reference": f"Organization/{place.institution.code}", "display": place.institution.name,
        },
        "relatesTo": [r for r in (_relation(one, targets, own) for one in document.related) if r],
        "description": title_of(document),
        "securityLabel": [{"coding": labels}] if labels else [],
        "content": [{"attachment": _attachment(document, place, body, media), "format": _format(document, family)}],
        "context": _context(document, place),
    }  # fmt: skip
    made["meta"] = {k: v for k, v in made["meta"].items() if v}
    return {k: v for k, v in made.items() if v not in ("", [], {}, None)}


def _identifiers(document: Document, own: str) -> list[dict[str, Any]]:
    found = identifier(document.set_id, own) if document.set_id else None
    if found is None:
        return []
    return [{"type": {"text": f"setId v{document.version or 1}"}, **found}]


def _type(document: Document) -> dict[str, Any]:
    codings = []
    if document.code.code:
        system = document.code.system
        known = f"urn:oid:{system}" if OID.fullmatch(system) else system
        if system == "2.16.840.1.113883.6.1":
            known = "http://loinc.org"
        codings.append(_coding(known, document.code.code, document.code.display))
    if document.kind is not None:
        codings.append(_coding(f"{FORMATS}/kind", document.kind.number, document.kind.zh))
        if document.kind.loinc:
            codings.append(_coding("http://loinc.org", document.kind.loinc, ""))
    return {"coding": codings, "text": title_of(document)} if codings else {"text": title_of(document)}


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    made = {"system": system, "code": code.strip(), "display": display.strip()}
    return {k: v for k, v in made.items() if v}


def _author(party: Party) -> dict[str, Any] | None:
    name = party.name.strip() or party.thing.label or (party.org.name.strip() if party.org else "")
    if not name:
        return None
    where = party.org.name.strip() if party.org and party.name.strip() else ""
    return {"display": f"{name}（{where}）"[:200] if where and where != name else name[:200]}


def _relation(one: Related, targets: dict[str, str], own: str) -> dict[str, Any] | None:
    code = RELATIONS.get(one.type.upper())
    if code is None:
        return None
    known = targets.get(str(one.id)) or targets.get(str(one.set_id))
    if known:
        return {"code": code, "target": {"reference": f"DocumentReference/{known}"}}
    number = identifier(one.id, own) or identifier(one.set_id, own)
    return {"code": code, "target": {"identifier": number}} if number else None


def _attachment(document: Document, place: Place, body: bytes, media: str) -> dict[str, Any]:
    written = instant(document.time)
    made: dict[str, Any] = {
        "extension": [{"url": SM3, "valueBase64Binary": base64.b64encode(sm3(body)).decode()}],
        "contentType": media,
        "url": f"Binary/{place.binary}",
        "size": len(body),
        "hash": base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode(),
        "title": title_of(document),
    }
    if written is not None:
        made["creation"] = written.isoformat(timespec="seconds")
    return made


def _format(document: Document, family: str) -> dict[str, str]:
    if document.kind is not None:
        return _coding(FORMATS, f"urn:oid:{document.kind.template}", document.kind.standard)
    if family == CCDA:
        whole = "structuredBody" if document.sections else "nonXMLBody"
        return _coding(C_CDA_FORMATS, f"urn:hl7-org:sdwg:ccda-{whole}:2.1", "C-CDA")
    return _coding(FORMATS, "urn:hl7-org:v3:cda:r2", "CDA R2")


def _context(document: Document, place: Place) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if place.encounter:
        made["encounter"] = [{"reference": f"Encounter/{place.encounter}"}]
    period = _period(document.encounter.time if document.encounter else None)
    if not period:
        period = next((p for s in document.services for p in map(_period, s.times) if p), {})
    if period:
        made["period"] = period
    if document.encounter and document.encounter.location:
        names = [o.name.strip() for o in document.encounter.location.chain() if o.name.strip()]
        if names:
            made["practiceSetting"] = {"text": " ".join(reversed(names))[:200]}
    related: list[dict[str, Any]] = []
    if place.composition:
        related.append({"reference": f"Composition/{place.composition}"})
    related += [{"identifier": n} for n in (_number(o, place) for o in document.orders) if n]
    if related:
        made["related"] = related
    return made


def _number(one: Id, place: Place) -> dict[str, str] | None:
    return identifier(one, f"urn:lianxin:mr:{place.institution.code}") if one else None


def _period(value: Value | None) -> dict[str, str]:
    if value is None:
        return {}
    low = instant((value.low.text if value.low else "") or value.text)
    high = instant(value.high.text) if value.high else None
    made = {}
    if low is not None:
        made["start"] = low.isoformat(timespec="seconds")
    if high is not None and (low is None or high >= low):
        made["end"] = high.isoformat(timespec="seconds")
    return made


def code_of(one: Code) -> str:
    """A code for people: its words with the code behind them."""
    label = one.label
    return f"{label}（{one.code}）" if one.code and one.code != label else label


__all__ = ["URI", "Place", "binary", "code_of", "family_of", "instant", "kind_of", "reference", "title_of"]
