"""How values of FHIR are written in HL7 v2: the filters that mappings of :mod:`~lianxin.exchange.v2.outbound_mapping` name.

A filter takes the nodes a path led to and its argument, and gives a field: a text, a tuple of components, or a list of repetitions.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any

from lianxin.exchange.v2.message import USUAL

Field = Any
SYSTEMS = {
    "http://loinc.org": "LN",
    "http://snomed.info/sct": "SCT",
    "http://hl7.org/fhir/sid/icd-10": "I10",
    "http://unitsofmeasure.org": "UCUM",
    "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation": "HL70078",
    "http://terminology.hl7.org/CodeSystem/v2-0074": "HL70074",
}
"""Code systems as HL7 table 0396 calls them; every other one is local ("L")."""
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(\.\d{1,4})?\d*)?(Z|[+-]\d\d:\d\d)?")


def day(nodes: list[Any], _: str) -> Field:
    """A date (DT): the day of a date or dateTime."""
    for node in nodes:
        found = _DATE.match(str(node))
        if found:
            return found[0].replace("-", "")
    return ""


def moment(nodes: list[Any], _: str) -> Field:
    """A dateTime or instant (TS, DTM) with its offset."""
    for node in nodes:
        text = str(node)
        found = _TIME.fullmatch(text)
        if found:
            year, month, date, hour, minute, second, part, zone = found.groups()
            offset = "" if zone is None else "+0000" if zone == "Z" else zone.replace(":", "")
            return f"{year}{month}{date}{hour}{minute}{second or '00'}{(part or '')[:5]}{offset}"
        if _DATE.fullmatch(text):
            return text.replace("-", "")
    return ""


def coded(nodes: list[Any], _: str) -> Field:
    """A CodeableConcept or Coding (CE, CWE): two codings at most, and the text."""
    for node in nodes:
        if not isinstance(node, dict):
            continue
        codings = [node] if "coding" not in node and "code" in node else node.get("coding", [])
        codings = sorted(
            (c for c in codings if isinstance(c, dict) and c.get("code")),
            key=lambda c: c.get("system") not in SYSTEMS,
        )
        text = node.get("text") or node.get("display") or ""
        parts: list[str] = []
        for one in codings[:2]:
            parts += [
                str(one["code"]),
                str(one.get("display") or text),
                SYSTEMS.get(one.get("system", ""), "L"),
            ]
        if parts:
            return tuple(parts)
        if text:
            return ("", str(text))
    return ""


def as_is(nodes: list[Any], _: str) -> Field:
    """What the context holds as a field already (identifiers that were looked up and allowed)."""
    found = list(nodes)
    return found[0] if len(found) == 1 else found


def person_name(nodes: list[Any], _: str) -> Field:
    """A HumanName (XPN): whole Chinese names stand in the family name, as hospitals here write them."""
    for node in nodes:
        if not isinstance(node, dict):
            continue
        given = " ".join(str(g) for g in node.get("given", []))
        family = str(node.get("family", ""))
        if given or family:
            whole = node.get("text") or ""
            if whole and whole == f"{family}{given}":
                return (whole, "", "", "", "", "", "L")
            return (family, given, "", "", "", "", "L")
        if node.get("text"):
            return (str(node["text"]), "", "", "", "", "", "L")
    return ""


def address(nodes: list[Any], _: str) -> Field:
    """Addresses (XAD)."""
    out = []
    for node in nodes:
        if isinstance(node, dict):
            line = str(node.get("text") or " ".join(str(x) for x in node.get("line", [])))
            made = (
                line, "", str(node.get("city", "")), str(node.get("state", "")), str(node.get("postalCode", "")),
                str(node.get("country", "")), "H",
            )  # fmt: skip
            if any(made[:6]):
                out.append(made)
    return out


def phones(nodes: list[Any], how: str) -> Field:
    """Telephone numbers (XTN): for ``work``, otherwise all that are not; ``new``: as since 2.6, in the twelfth component."""
    out: list[tuple[str, ...]] = []
    work = "work" in how
    for node in nodes:
        if not isinstance(node, dict) or node.get("system") != "phone" or not node.get("value"):
            continue
        if (node.get("use") == "work") == work:
            use, number = "WPN" if work else "PRN", str(node["value"])
            out.append(("", use, "PH", *[""] * 8, number) if "new" in how else (number, use, "PH"))
    return out


def who(nodes: list[Any], _: str) -> Field:
    """A Reference as a person (XCN): id and name."""
    for node in nodes:
        if isinstance(node, dict):
            kind, _, code = str(node.get("reference", "")).rpartition("/")
            if kind.endswith("Organization"):
                continue
            name = str(node.get("display", ""))
            code = code or str((node.get("identifier") or {}).get("value", ""))
            if code or name:
                return (code, name)
    return ""


def place(nodes: list[Any], _: str) -> Field:
    """A Reference as an organization's id and name (XON reversed: components are id, name)."""
    for node in nodes:
        if isinstance(node, dict):
            code = str(node.get("reference", "")).rpartition("/")[2] or str(
                (node.get("identifier") or {}).get("value", "")
            )
            name = str(node.get("display", ""))
            if code or name:
                return (code, name)
    return ""


def named(nodes: list[Any], _: str) -> Field:
    """A Reference to a person as a name (XPN)."""
    found = who(nodes, "")
    return (found[1], "", "", "", "", "", "L") if found and found[1] else ""


def location(nodes: list[Any], _: str) -> Field:
    """A Reference to an organization as a place (PL): its code as the facility, its name as the description."""
    found = place(nodes, "")
    return ("", "", "", found[0], "", "", "", "", found[1]) if found else ""


def provider(nodes: list[Any], _: str) -> Field:
    """A Reference to an organization as a provider's identifier (PLN): its code with us."""
    found = place(nodes, "")
    return (found[0], "LX") if found and found[0] else ""


def organization(nodes: list[Any], _: str) -> Field:
    """A Reference as an organization (XON): name first, its code third."""
    found = place(nodes, "")
    return (found[1], "", found[0]) if found else ""


def plain(nodes: list[Any], _: str) -> Field:
    """The plain text of a Narrative or text: marks of XHTML left out."""
    for node in nodes:
        text = node.get("div", "") if isinstance(node, dict) else str(node)
        if text:
            return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).strip()
    return ""


def value_type(nodes: list[Any], _: str) -> Field:
    """OBX-2: what :func:`value` will write."""
    for node in nodes:
        if not isinstance(node, dict):
            continue
        if "valueQuantity" in node:
            return "SN" if node["valueQuantity"].get("comparator") else "NM"
        if "valueCodeableConcept" in node:
            return "CWE" if _ == "new" else "CE"
        if "valueDateTime" in node:
            return "DTM" if _ == "new" else "TS"
        if "valueInteger" in node:
            return "NM"
        if "valueRatio" in node or "valueRange" in node:
            return "SN"
        if "valueTime" in node:
            return "TM"
        if "valueString" in node or "valueBoolean" in node:
            return "ST"
    return ""


def value(nodes: list[Any], _: str) -> Field:
    """OBX-5."""
    for node in nodes:
        if not isinstance(node, dict):
            continue
        if "valueQuantity" in node:
            one = node["valueQuantity"]
            number = str(one.get("value", ""))
            return (str(one["comparator"]), number) if one.get("comparator") else number
        if "valueCodeableConcept" in node:
            return coded([node["valueCodeableConcept"]], "")
        if "valueDateTime" in node:
            return moment([node["valueDateTime"]], "")
        if "valueRatio" in node:
            ratio = node["valueRatio"]
            parts = (
                ratio.get("numerator", {}).get("value", ""),
                ratio.get("denominator", {}).get("value", ""),
            )
            return ("", str(parts[0]), ":", str(parts[1]))
        if "valueRange" in node:
            parts = (
                node["valueRange"].get("low", {}).get("value", ""),
                node["valueRange"].get("high", {}).get("value", ""),
            )
            return ("", str(parts[0]), "-", str(parts[1]))
        if "valueTime" in node:
            return str(node["valueTime"]).replace(":", "")
        if "valueBoolean" in node:
            return "Y" if node["valueBoolean"] else "N"
        for name in ("valueString", "valueInteger"):
            if name in node:
                return str(node[name])
    return ""


def unit(nodes: list[Any], _: str) -> Field:
    """OBX-6 of a quantity: the unit's code when it has one."""
    for node in nodes:
        if isinstance(node, dict):
            one = node.get("valueQuantity") or (node.get("valueRange") or {}).get("low") or {}
            if one.get("code"):
                return (
                    str(one["code"]),
                    str(one.get("unit", one["code"])),
                    SYSTEMS.get(one.get("system", ""), "L"),
                )
            if one.get("unit"):
                return str(one["unit"])
    return ""


def reference_range(nodes: list[Any], _: str) -> Field:
    """OBX-7: the range as it is written, or low-high."""
    for node in nodes:
        if isinstance(node, dict):
            if node.get("text"):
                return str(node["text"])
            low, high = (node.get(k, {}).get("value") for k in ("low", "high"))
            if low is not None and high is not None:
                return f"{low}-{high}"
            if low is not None or high is not None:
                return f">={low}" if low is not None else f"<={high}"
    return ""


def tail(nodes: list[Any], _: str) -> Field:
    """The id at the end of a reference."""
    for node in nodes:
        text = node.get("reference", "") if isinstance(node, dict) else str(node)
        if text:
            return text.rpartition("/")[2]
    return ""


FILTERS: dict[str, Callable[[Any, str], Field]] = {
    "day": day, "moment": moment, "coded": coded, "as_is": as_is, "named": named, "location": location, "provider": provider, "name": person_name, "address": address, "phones": phones,
    "who": who, "place": place, "organization": organization, "plain": plain, "value_type": value_type, "value": value,
    "unit": unit, "range": reference_range, "tail": tail,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- character sets


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """A character the receiver's set does not have, as ``\\Xhh…\\`` with its bytes in UTF-8 (which MSH-18 then names second)."""
    assert isinstance(error, UnicodeEncodeError)
    mark = USUAL.escape
    lost = error.object[error.start : error.end]
    return "".join(f"{mark}X{c.encode('utf-8', 'replace').hex().upper()}{mark}" for c in lost), error.end


def encode(segments: list[str], codec: str) -> bytes:
    """The bytes of a message in its receiver's character set, nothing lost."""
    return "".join(f"{s}\r" for s in segments).encode(codec, "hl7-escape")


def fits(segments: list[str], codec: str) -> bool:
    """Whether the character set has every character."""
    try:
        "".join(segments).encode(codec)
    except UnicodeEncodeError:
        return False
    return True


codecs.register_error("hl7-escape", _escaped)
