"""The data types of CDA R2 as :mod:`lianxin.exchange.cda.model` has them. Tolerant: an empty attribute is an absent one."""

from __future__ import annotations

import re
from typing import Any

from lianxin.exchange.cda.model import Code, Id, Org, Party, Value

XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
NUMBERS = "2.16.156.10011.1."
"""Roots below this are spaces of numbers (WS/T 500: 文档流水号, 住院号, 医务人员编号 …)."""
_LOCAL: dict[str, str] = {}
_SPACE = re.compile(r"\s+")
_ADDRESS = ("country", "state", "city", "county", "precinct", "township")
"""Parts of an address, the largest first; what is not named here comes after them, the house number last."""
_IGNORED = frozenset(
    {"typeId", "realmCode", "templateId", "signatureText", "noteText", "modeCode", "awarenessCode"}
)
_PERSONS = frozenset(
    {"assignedPerson", "associatedPerson", "relatedPerson", "informationRecipient", "playingEntity", "guardianPerson", "person",
     "playingDevice", "subject"}
)  # fmt: skip
_ORGS = frozenset(
    {"representedOrganization", "scopingOrganization", "receivedOrganization", "guardianOrganization", "manufacturerOrganization",
     "serviceProviderOrganization", "representedCustodianOrganization", "scopingEntity", "wholeOrganization"}
)  # fmt: skip


def local(tag: Any) -> str:
    """An element's name without its namespace."""
    found = _LOCAL.get(tag)
    if found is None:
        if len(_LOCAL) > 4096:
            _LOCAL.clear()
        found = _LOCAL[tag] = tag.rpartition("}")[2] if isinstance(tag, str) else ""
    return found


def attribute(el: Any, name: str) -> str:
    """An attribute without blanks around it."""
    found = el.get(name)
    return found.strip() if found else ""


def words(el: Any) -> str:
    """All text of an element, blanks run together."""
    if not len(el):
        text = el.text
        return " ".join(text.split()) if text else ""
    return _SPACE.sub(" ", "".join(el.itertext())).strip()


def lines(el: Any) -> str:
    """All text of an element with its line breaks, blanks around it taken away."""
    return "".join(el.itertext()).strip() if len(el) else (el.text or "").strip()


def child(el: Any, name: str) -> Any:
    """The first child of a name, or None."""
    for one in el:
        if local(one.tag) == name:
            return one
    return None


def code(el: Any) -> Code:
    """CD and its kin, with translations and the values of qualifiers."""
    get = el.get
    made = Code(
        (get("code") or "").strip(), (get("codeSystem") or "").strip(), (get("displayName") or "").strip(),
        (get("codeSystemName") or "").strip(), "", (get("nullFlavor") or "").strip(),
    )  # fmt: skip
    if len(el):
        for one in el:
            name = local(one.tag)
            if name == "originalText":
                made.text = words(one)
            elif name == "translation":
                if other := code(one):
                    made.others.append(other)
            elif name == "qualifier":
                for half in one:
                    if other := code(half):
                        made.others.append(other)
    elif el.text and not made.display and (text := el.text.strip()):
        made.text = text
    return made


def ident(el: Any) -> Id:
    """II.  A number space without a number (templates leave ``extension=""``, or the root alone) is no id at all."""
    root, extension = attribute(el, "root"), attribute(el, "extension") or words(el)
    if not extension and "-" not in root and (el.get("extension") is not None or root.startswith(NUMBERS)):
        root = ""
    return Id(root, extension, attribute(el, "assigningAuthorityName"))


def kind_of(el: Any) -> str:
    """The xsi:type without prefix and parameters ("" when none was given)."""
    said = el.get(XSI_TYPE)
    if said is None:
        for name, value in el.attrib.items():
            if local(name) == "type" and name != "type":
                said = value
                break
        else:
            return ""
    said = said.rpartition(":")[2].strip().replace("<", "_").replace(">", "")
    upper = said.upper()
    return {"STRING": "ST", "BOOLEAN": "BL", "INTEGER": "INT", "INT_POS": "INT", "INT_NONNEG": "INT", "DECIMAL": "REAL",
            "DATETIME": "TS", "CE": "CE"}.get(upper, upper)  # fmt: skip


def value(el: Any, kind: str = "") -> Value:
    """A value of any type; ``kind`` is the type when the element does not say its own."""
    get = el.get
    said = kind_of(el)
    made = Value(said or kind, "", "", null=(get("nullFlavor") or "").strip())
    lexical = (get("value") or "").strip()
    if get("code") or get("displayName") or get("codeSystem") or made.type in ("CD", "CE", "CV", "CS", "CO"):
        if not said and made.type not in ("CD", "CE", "CV", "CS", "CO"):
            made.type = "CD"
        found = code(el)
        if lexical and not found.code:
            found.code = lexical
        if found.code or found.display or found.text or found.others:
            made.code = found
        return made
    made.text = lexical
    made.unit = (get("unit") or get("currency") or "").strip()
    if get("root") or get("extension"):
        made.id = ident(el)
        made.type = said or "II"
        return made
    if get("mediaType") or get("representation"):
        made.media_type = attribute(el, "mediaType")
    if len(el):
        _inside(el, made)
    if not lexical and (text := (lines(el) if made.low is None and made.high is None else "")):
        if get("representation") == "B64" or (made.media_type and not made.media_type.startswith("text/")):
            made.data = "".join(text.split())
        else:
            made.text = text
    if not made.type:
        made.type = (
            ("MO" if get("currency") else "PQ" if made.unit else "ST")
            if lexical
            else "ED"
            if made.data
            else "ST"
        )
    return made


def _inside(el: Any, made: Value) -> None:
    for one in el:
        name = local(one.tag)
        if name in ("low", "numerator", "center"):
            made.low = value(one, "TS" if made.type in ("IVL_TS", "TS") else "PQ")
        elif name in ("high", "denominator"):
            made.high = value(one, "TS" if made.type in ("IVL_TS", "TS") else "PQ")
        elif name == "period" or (name == "width" and made.high is None and not made.text):
            made.text, made.unit = attribute(one, "value"), attribute(one, "unit")
    _compared(el, made)
    if (made.low is not None or made.high is not None) and not made.type.startswith(("IVL", "RTO", "PIVL")):
        made.type = f"IVL_{made.type}" if made.type in ("TS", "PQ", "INT", "REAL", "MO") else "IVL_PQ"


def _compared(el: Any, made: Value) -> None:
    """One bound that says whether it is included is a comparison: less than, at most, more than, at least."""
    if (made.low is None) == (made.high is None) or "TS" in made.type or made.type.startswith("RTO"):
        return
    for one in el:
        name, said = local(one.tag), one.get("inclusive")
        if said and name in ("low", "high"):
            bound = made.low or made.high
            if bound is not None and bound.text:
                made.text = ("<" if name == "high" else ">") + ("=" if said == "true" else "") + bound.text
                made.unit, made.type = bound.unit, "PQ"
                made.low = made.high = None


def time(el: Any) -> Value | None:
    """effectiveTime: a TS, an interval or a repetition; None when it says nothing."""
    found = value(el, "TS")
    return found if found or found.null else None


def stamp(el: Any) -> str:
    """A time's own value, or the beginning of its interval."""
    if direct := attribute(el, "value"):
        return direct
    for one in el:
        if local(one.tag) in ("low", "center", "high") and (found := attribute(one, "value")):
            return found
    return words(el)


def phone(el: Any) -> str:
    """A telecom as a number or address, without its scheme."""
    said = attribute(el, "value") or words(el)
    return said.removeprefix("tel:").removeprefix("mailto:").strip()


def address(el: Any) -> str:
    """An address in one line, the largest part first as it is written in Chinese."""
    if not len(el):
        return words(el)
    parts: dict[str, list[str]] = {}
    for one in el:
        if text := words(one) or attribute(one, "value"):
            parts.setdefault(local(one.tag), []).append(text)
    parts.pop("postalCode", None)
    house = parts.pop("houseNumber", [])
    ordered = [text for name in _ADDRESS for text in parts.pop(name, [])]
    ordered += [text for texts in parts.values() for text in texts] + house
    tail = el.text.strip() if el.text else ""
    if tail:
        ordered.append(tail)
    return (" " if all(part.isascii() for part in ordered) else "").join(ordered)


def name(el: Any) -> str:
    """A name as it is read: Chinese without blanks between its parts."""
    if not len(el):
        return words(el)
    families = [words(one) for one in el if local(one.tag) == "family"]
    others = [words(one) for one in el if local(one.tag) not in ("family", "validTime")]
    own = (el.text or "").strip()
    joined = [p for p in (own, *families, *others) if p]
    if all(p.isascii() for p in joined):
        return " ".join([p for p in (own, *others, *families) if p])
    return "".join(joined)


def org(el: Any) -> Org:
    """An organisation with those it is part of. An empty wrapper (a bed without anything) is passed over."""
    made = Org()
    for one in el:
        tag = local(one.tag)
        if tag == "id":
            if found := ident(one):
                made.ids.append(found)
        elif tag in ("name", "desc"):
            made.name = made.name or name(one)
        elif tag == "telecom":
            made.phone = made.phone or phone(one)
        elif tag == "addr":
            made.address = made.address or address(one)
        elif tag == "asOrganizationPartOf":
            whole = child(one, "wholeOrganization")
            if whole is not None:
                made.part_of = org(whole)
    if not made.ids and not made.name and made.part_of is not None:
        return made.part_of
    return made


def party(el: Any) -> Party:
    """Whoever takes part, from any of the participations of CDA."""
    made = Party(local(el.tag), attribute(el, "typeCode"))
    for one in el:
        tag = local(one.tag)
        if tag == "time":
            made.time = stamp(one)
        elif tag == "functionCode":
            made.function = code(one)
        elif tag == "signatureCode":
            made.signature = attribute(one, "code")
        elif tag not in _IGNORED:
            _role(one, made)
    return made


def _role(el: Any, made: Party) -> None:
    for one in el:
        tag = local(one.tag)
        if tag == "id":
            if found := ident(one):
                made.ids.append(found)
        elif tag == "code":
            found_code = code(one)
            if found_code and not made.function:
                made.function = found_code
        elif tag == "telecom":
            made.phone = made.phone or phone(one)
        elif tag == "addr":
            made.address = made.address or address(one)
        elif tag in _PERSONS:
            _person(one, made)
        elif tag == "assignedAuthoringDevice":
            made.name = made.name or " ".join(
                filter(None, (words(part) or attribute(part, "displayName") for part in one))
            )
        elif tag in _ORGS:
            if found_org := org(one):
                made.org = found_org
        elif tag == "name":
            made.name = made.name or name(one)


def _person(el: Any, made: Party) -> None:
    for one in el:
        tag = local(one.tag)
        if tag == "name":
            made.name = made.name or name(one)
        elif tag == "id":
            if found := ident(one):
                made.ids.append(found)
        elif tag == "code":
            made.thing = code(one)
        elif tag == "desc":
            made.thing_text = lines(one)
        elif tag in ("professionalTechnicalPosition", "professionaltechnicalpositionCode"):
            inner = next(iter(one), one)
            if held := code(inner):
                made.function = made.function or held


def leftover(el: Any, place: str) -> list[tuple[str, str]]:
    """Everything an element says, as (place, text): what is kept of elements nobody here knows."""
    text = (el.text or "").strip()
    said = text or next(
        (s for key in ("value", "displayName", "code", "extension") if (s := attribute(el, key))), ""
    )
    out = [(place, f"{said} {attribute(el, 'unit')}".strip())] if said else []
    for one in el:
        out += leftover(one, f"{place}/{local(one.tag)}")
    return out
