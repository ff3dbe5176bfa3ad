"""Objects of :mod:`lianxin.exchange.cda.model` as CDA R2, every element where the schema wants it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from lianxin.exchange.cda import elements, narrating, values
from lianxin.exchange.cda.kinds import CODES, Kind
from lianxin.exchange.cda.model import (
    Code,
    Encounter,
    Entry,
    Header,
    Id,
    Org,
    Party,
    Patient,
    Product,
    Range,
    Related,
    Section,
    Value,
)
from lianxin.exchange.cda.reading import CARD, RECORD, RESIDENT_ID

_ROOT = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TS = re.compile(r"\d{4}(?:\d{2}){0,5}(?:\.\d+)?(?:[+-]\d{4})?")
_REAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_COMPARED = re.compile(r"(<=|>=|<|>)(.+)")
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ClinicalDocument xmlns="urn:hl7-org:v3" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><realmCode code="CN"/>'
    '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
)
_SPACES = {
    elements.SYSTEM: "卫生信息数据元目录",
    elements.LOINC: "LOINC",
    CODES: "卫生信息共享文档规范编码体系",
}
_PREFIXES = "http://lianxin.example/"


def is_root(text: str) -> bool:
    """Whether a text may stand as the root of an II: an OID or a UUID."""
    return bool(_ROOT.fullmatch(text))


def _t(text: str) -> str:
    return escape(_CONTROL.sub("", text))


def _a(name: str, text: str) -> str:
    """An attribute, or nothing when it is empty."""
    return f" {name}={quoteattr(_CONTROL.sub('', text))}" if text else ""


def document(kind: Kind, header: Header, sections: list[Section]) -> str:
    """The whole document."""
    out = [_HEAD, f'<templateId root="{kind.template}"/>', _id(header.id)]
    out.append(_code("code", Code(kind.code, CODES, kind.zh)))
    out.append(f"<title>{_t(header.title or kind.zh)}</title>")
    out.append(_ts("effectiveTime", header.time))
    out.append(_code("confidentialityCode", header.confidentiality or Code("N", "2.16.840.1.113883.5.25")))
    out.append(f"<languageCode{_a('code', header.language or 'zh-CN')}/>")
    if header.set_id:
        version = header.version if header.version.isdigit() else "1"
        out.append(_id(header.set_id, "setId") + f'<versionNumber value="{version}"/>')
    out.append(_patient(header.patient))
    out += [_author(a, header.time) for a in header.authors] or [_author(Party("author"), header.time)]
    if header.enterer:
        out.append(_signed("dataEnterer", header.enterer, signed=False))
    out += [f'<informant typeCode="INF">{_assigned(p)}</informant>' for p in header.informants]
    out.append(_custodian(header.custodian or Org()))
    out += [
        f'<informationRecipient typeCode="PRCP"><intendedRecipient>{"".join(map(_id, p.ids))}'
        + (f"<informationRecipient><name>{_t(p.name)}</name></informationRecipient>" if p.name else "")
        + (f"<receivedOrganization>{_org(p.org)}</receivedOrganization>" if p.org else "")
        + "</intendedRecipient></informationRecipient>"
        for p in header.recipients
    ]
    if header.legal:
        out.append(_signed("legalAuthenticator", header.legal))
    out += [_signed("authenticator", p) for p in header.authenticators]
    out += [_participant(p) for p in header.participants]
    out += [
        f'<inFulfillmentOf><order classCode="ACT" moodCode="RQO">{_id(i)}</order></inFulfillmentOf>'
        for i in header.orders
    ]
    out += [_service(s) for s in header.services]
    out += [_related(r) for r in header.related]
    if header.encounter:
        out.append(_encounter(header.encounter))
    body = "".join(_section(s) for s in sections)
    if not body:
        body = "<component><section><title>正文</title><text>无内容</text></section></component>"
    out.append(f"<component><structuredBody>{body}</structuredBody></component></ClinicalDocument>")
    return "".join(out)


# ------------------------------------------------------------------------------------------------------- small things


def _id(one: Id, tag: str = "id") -> str:
    if not one or (one.root and not is_root(one.root) and not one.extension):
        return f'<{tag} nullFlavor="UNK"/>'
    if not is_root(one.root):
        name = one.authority or one.root
        return (
            f'<{tag} nullFlavor="UNK"{_a("extension", one.extension)}{_a("assigningAuthorityName", name)}/>'
        )
    return f"<{tag}{_a('root', one.root)}{_a('extension', one.extension)}{_a('assigningAuthorityName', one.authority)}/>"


def _ids(ids: Iterable[Id], *, least: int = 1) -> str:
    made = "".join(_id(i) for i in ids if i)
    return made or ('<id nullFlavor="UNK"/>' if least else "")


def _code(tag: str, code: Code, kind: str = "") -> str:
    typed = f' xsi:type="{kind}"' if kind else ""
    if not code:
        return f'<{tag}{typed} nullFlavor="{code.null or "UNK"}"/>'
    word = " ".join(code.code.split())
    system = code.system if is_root(code.system) else ""
    name = code.system_name or _SPACES.get(system, "") or ("" if system else code.system)
    said = (
        _a("code", word.replace(" ", ""))
        + _a("codeSystem", system)
        + _a("codeSystemName", name)
        + _a("displayName", code.display)
    )
    if not word:
        said = _a("nullFlavor", code.null or "OTH") + said
    inner = f"<originalText>{_t(code.text)}</originalText>" if code.text else ""
    inner += "".join(_code("translation", other) for other in code.others if other.code)
    return f"<{tag}{typed}{said}>{inner}</{tag}>" if inner else f"<{tag}{typed}{said}/>"


def _stamp(text: str) -> str:
    """A TS the schema takes, or "" ."""
    if _TS.fullmatch(text):
        return text
    return values.stamp(values.instant(text))


def _ts(tag: str, text: str) -> str:
    found = _stamp(text)
    return f'<{tag} value="{found}"/>' if found else f'<{tag} nullFlavor="UNK"/>'


def _time(tag: str, value: Value, *, typed: bool = False) -> str:
    """effectiveTime: a moment or an interval."""
    kind = ' xsi:type="IVL_TS"' if typed else ""
    if value.low or value.high:
        low = _ts("low", value.low.text) if value.low else ""
        high = _ts("high", value.high.text) if value.high else ""
        return f"<{tag}{kind}>{low}{high}</{tag}>"
    found = _stamp(value.text)
    return (
        f'<{tag}{kind} value="{found}"/>' if found else f'<{tag}{kind} nullFlavor="{value.null or "UNK"}"/>'
    )


def _telecoms(phone: str) -> str:
    return f"<telecom{_a('value', f'tel:{phone}')}/>" if phone else ""


def _addr(text: str) -> str:
    return f"<addr>{_t(text)}</addr>" if text else ""


# -------------------------------------------------------------------------------------------------------------- people


def _patient(p: Patient) -> str:
    own = next((i for i in p.ids if i.root == RESIDENT_ID), None)
    others = [i for i in p.ids if i.root != RESIDENT_ID]
    order = {RECORD: 0, CARD: 1}
    others.sort(key=lambda i: order.get(i.root, 2))
    out = [
        f'<recordTarget typeCode="RCT" contextControlCode="OP"><patientRole classCode="PAT">{_ids(others or p.ids)}'
    ]
    out += [f'<addr use="H">{_t(a)}</addr>' for a in p.addresses]
    out += [_telecoms(t) for t in p.phones]
    out.append('<patient classCode="PSN" determinerCode="INSTANCE">')
    if own is not None:
        out.append(_id(own))
    out.append(f"<name>{_t(p.name)}</name>" if p.name else '<name nullFlavor="UNK"/>')
    out.append(_code("administrativeGenderCode", p.sex))
    out.append(_ts("birthTime", p.birth))
    for tag, code in (("maritalStatusCode", p.marital), ("ethnicGroupCode", p.ethnic)):
        if code:
            out.append(_code(tag, code))
    if p.guardian and p.guardian.name:
        out.append(
            f'<guardian classCode="GUARD"><guardianPerson><name>{_t(p.guardian.name)}</name></guardianPerson></guardian>'
        )
    if p.birth_place:
        out.append(f"<birthplace><place>{_addr(p.birth_place)}</place></birthplace>")
    out.append("</patient>")
    if p.provider:
        out.append(f"<providerOrganization>{_org(p.provider)}</providerOrganization>")
    return "".join(out) + "</patientRole></recordTarget>"


def _org(one: Org) -> str:
    out = _ids(one.ids, least=0) + (f"<name>{_t(one.name)}</name>" if one.name else "")
    out += _telecoms(one.phone) + _addr(one.address)
    if one.part_of:
        out += f'<asOrganizationPartOf classCode="PART"><wholeOrganization>{_org(one.part_of)}</wholeOrganization></asOrganizationPartOf>'
    return out


def _custodian(one: Org) -> str:
    whole = next((o for o in one.chain() if o.ids), one)
    inner = (
        _ids(whole.ids)
        + (f"<name>{_t(whole.name)}</name>" if whole.name else "")
        + _telecoms(whole.phone)
        + _addr(whole.address)
    )
    return (
        '<custodian typeCode="CST"><assignedCustodian classCode="ASSIGNED"><representedCustodianOrganization classCode="ORG" '
        f'determinerCode="INSTANCE">{inner}</representedCustodianOrganization></assignedCustodian></custodian>'
    )


def _author(p: Party, default: str) -> str:
    out = '<author typeCode="AUT" contextControlCode="OP">' + _ts("time", p.time or default)
    out += f'<assignedAuthor classCode="ASSIGNED">{_ids(p.ids)}'
    out += (_code("code", p.function) if p.function else "") + _addr(p.address) + _telecoms(p.phone)
    if p.name:
        out += f"<assignedPerson><name>{_t(p.name)}</name></assignedPerson>"
    if p.org:
        out += f"<representedOrganization>{_org(p.org)}</representedOrganization>"
    return out + "</assignedAuthor></author>"


def _assigned(p: Party) -> str:
    out = f'<assignedEntity classCode="ASSIGNED">{_ids(p.ids)}'
    out += (_code("code", p.function) if p.function else "") + _addr(p.address) + _telecoms(p.phone)
    if p.name:
        out += f"<assignedPerson><name>{_t(p.name)}</name></assignedPerson>"
    if p.org:
        out += f"<representedOrganization>{_org(p.org)}</representedOrganization>"
    return out + "</assignedEntity>"


def _signed(tag: str, p: Party, *, signed: bool = True) -> str:
    mark = '<signatureCode code="S"/>' if signed else ""
    return f"<{tag}>{_ts('time', p.time)}{mark}{_assigned(p)}</{tag}>"


def _participant(p: Party) -> str:
    out = f"<participant{_a('typeCode', p.type or 'IND')}>" + (_ts("time", p.time) if p.time else "")
    out += f'<associatedEntity classCode="ASSIGNED">{_ids(p.ids, least=0)}'
    out += (_code("code", p.function) if p.function else "") + _addr(p.address) + _telecoms(p.phone)
    if p.name:
        out += f"<associatedPerson><name>{_t(p.name)}</name></associatedPerson>"
    if p.org:
        out += f"<scopingOrganization>{_org(p.org)}</scopingOrganization>"
    return out + "</associatedEntity></participant>"


def _service(s: Entry) -> str:
    out = f'<documentationOf><serviceEvent classCode="ACT" moodCode="EVN">{_ids(s.ids, least=0)}'
    out += (_code("code", s.code) if s.code else "") + (_time("effectiveTime", s.times[0]) if s.times else "")
    out += "".join(
        f'<performer typeCode="PRF">{_assigned(p)}</performer>' for p in s.parties if p.role == "performer"
    )
    return out + "</serviceEvent></documentationOf>"


def _related(r: Related) -> str:
    kind = r.type if r.type in ("RPLC", "APND", "XFRM") else "RPLC"
    out = f'<relatedDocument typeCode="{kind}"><parentDocument>{_id(r.id)}'
    if r.set_id:
        out += _id(r.set_id, "setId")
    if r.version.isdigit():
        out += f'<versionNumber value="{r.version}"/>'
    return out + "</parentDocument></relatedDocument>"


def _encounter(e: Encounter) -> str:
    out = f'<componentOf><encompassingEncounter classCode="ENC" moodCode="EVN">{_ids(e.ids, least=0)}'
    out += _code("code", e.code) if e.code else ""
    out += _time("effectiveTime", e.time) if e.time else '<effectiveTime nullFlavor="UNK"/>'
    out += _code("dischargeDispositionCode", e.discharge) if e.discharge else ""
    for p in e.parties:
        if p.role == "responsibleParty":
            out += f"<responsibleParty>{_assigned(p)}</responsibleParty>"
            break
    for p in e.parties:
        if p.role != "responsibleParty":
            kind = p.type if p.type in ("ADM", "ATND", "CON", "DIS", "REF") else "ATND"
            out += f'<encounterParticipant typeCode="{kind}">{_assigned(p)}</encounterParticipant>'
    if e.location:
        out += f"<location><healthCareFacility><serviceProviderOrganization>{_org(e.location)}</serviceProviderOrganization>"
        out += "</healthCareFacility></location>"
    return out + "</encompassingEncounter></componentOf>"


# ---------------------------------------------------------------------------------------------------------------- body


def _section(s: Section) -> str:
    out = "<component><section>" + "".join(f"<templateId{_a('root', t)}/>" for t in s.templates if is_root(t))
    out += "".join(_id(i) for i in s.ids[:1]) + (_code("code", s.code) if s.code else "")
    out += f"<title>{_t(s.title)}</title>" if s.title else ""
    out += f"<text>{narrating.of_section(s)}</text>"
    out += "".join(f"<entry>{_entry(e)}</entry>" for e in s.entries)
    out += "".join(_section(below) for below in s.sections)
    return out + "</section></component>"


def _entry(e: Entry) -> str:
    make = {"organizer": _organizer, "procedure": _procedure, "substanceAdministration": _substance, "act": _act,
            "observationMedia": _media}.get(e.tag, _observation)  # fmt: skip
    return make(e)


def _entry_code(e: Entry) -> str:
    """The code: the data element under the name it bears, other codes as translations."""
    if not e.element:
        return _code("code", e.code)
    others = [o for o in e.code.others if o.code]
    if e.code.code and elements.canonical(e.code.code) != e.element:
        others.insert(0, Code(e.code.code, e.code.system, e.code.display))
    return _code("code", Code(e.element, elements.SYSTEM, e.label, others=others))


def _below(e: Entry) -> str:
    return "".join(
        f'<entryRelationship typeCode="{_relation(p)}">{_entry(p)}</entryRelationship>' for p in e.parts
    )


def _relation(e: Entry) -> str:
    return (
        e.relation
        if e.relation in ("COMP", "RSON", "SUBJ", "REFR", "CAUS", "MFST", "SPRT", "SAS", "GEVL", "XCRPT")
        else "COMP"
    )


def _mood(e: Entry, allowed: tuple[str, ...] = ("EVN", "INT", "RQO", "PRMS", "PRP", "GOL", "DEF")) -> str:
    return e.mood if e.mood in allowed else "EVN"


def _people(e: Entry) -> str:
    out = "".join(
        f'<performer typeCode="PRF">{_assigned(p)}</performer>' for p in e.parties if p.role == "performer"
    )
    return out + "".join(_author(p, p.time) for p in e.parties if p.role == "author")


def _status(e: Entry) -> str:
    return f"<statusCode{_a('code', e.status)}/>" if e.status else ""


def _observation(e: Entry) -> str:
    negated = ' negationInd="true"' if e.negated else ""
    out = [
        f'<observation classCode="OBS" moodCode="{_mood(e)}"{negated}>',
        _ids(e.ids, least=0),
        _entry_code(e),
    ]
    if e.text:
        out.append(f"<text>{_t(e.text)}</text>")
    out += [_status(e), *(_time("effectiveTime", t) for t in e.times[:1])]
    out += [value(v) for v in e.values]
    out += [_code("interpretationCode", c) for c in e.interpretation]
    out += [_code(tag, c) for tag, c in (("methodCode", e.method), ("targetSiteCode", e.site)) if c]
    out += [_people(e), _below(e), *(_range(r) for r in e.ranges)]
    return "".join(out) + "</observation>"


def _range(r: Range) -> str:
    out = f"<text>{_t(r.text)}</text>" if r.text else ""
    return f"<referenceRange><observationRange>{out}{value(r.value) if r.value else ''}</observationRange></referenceRange>"


def _organizer(e: Entry) -> str:
    klass = e.klass if e.klass in ("BATTERY", "CLUSTER") else "CLUSTER"
    out = f'<organizer classCode="{klass}" moodCode="EVN">{_ids(e.ids, least=0)}' + (
        _entry_code(e) if e.code or e.element else ""
    )
    out += (
        f'<statusCode code="{e.status or "completed"}"/>'
        + "".join(_time("effectiveTime", t) for t in e.times[:1])
        + _people(e)
    )
    return out + "".join(f"<component>{_entry(p)}</component>" for p in e.parts) + "</organizer>"


def _procedure(e: Entry) -> str:
    negated = ' negationInd="true"' if e.negated else ""
    out = f'<procedure classCode="PROC" moodCode="{_mood(e, ("EVN", "INT", "RQO", "PRMS", "PRP"))}"{negated}>{_ids(e.ids, least=0)}'
    out += _code("code", e.code) + (f"<text>{_t(e.text)}</text>" if e.text else "") + _status(e)
    out += "".join(_time("effectiveTime", t) for t in e.times[:1])
    out += "".join(_code(tag, c) for tag, c in (("methodCode", e.method), ("targetSiteCode", e.site)) if c)
    return out + _people(e) + _below(e) + "</procedure>"


def _act(e: Entry) -> str:
    out = f'<act classCode="ACT" moodCode="{_mood(e)}">{_ids(e.ids, least=0)}{_code("code", e.code)}'
    out += (
        (f"<text>{_t(e.text)}</text>" if e.text else "")
        + _status(e)
        + "".join(_time("effectiveTime", t) for t in e.times[:1])
    )
    return out + _people(e) + _below(e) + "</act>"


def _substance(e: Entry) -> str:
    negated = ' negationInd="true"' if e.negated else ""
    mood = _mood(e, ("EVN", "INT", "RQO", "PRMS", "PRP"))
    out = f'<substanceAdministration classCode="SBADM" moodCode="{mood}"{negated}>{_ids(e.ids, least=0)}'
    out += (f"<text>{_t(e.text)}</text>" if e.text else "") + _status(e)
    out += "".join(_time("effectiveTime", t, typed=True) for t in e.times)
    out += _code("routeCode", e.route) if e.route else ""
    out += _code("approachSiteCode", e.site) if e.site else ""
    out += "".join(_amount(tag, v) for tag, v in (("doseQuantity", e.dose), ("rateQuantity", e.rate)) if v)
    out += _code("administrationUnitCode", e.form) if e.form else ""
    out += f"<consumable><manufacturedProduct>{_product(e.product or Product())}</manufacturedProduct></consumable>"
    parts = _below(e)
    if e.quantity:
        amount = _amount("quantity", e.quantity)
        parts += f'<entryRelationship typeCode="COMP"><supply classCode="SPLY" moodCode="{mood}">{amount}</supply></entryRelationship>'
    return out + _people(e) + parts + "</substanceAdministration>"


def _product(p: Product) -> str:
    code = _code("code", p.code) if p.code else ""
    name = f"<name>{_t(p.name)}</name>" if p.name else ""
    if p.lot:
        out = f"<manufacturedMaterial>{code}{name}<lotNumberText>{_t(p.lot)}</lotNumberText></manufacturedMaterial>"
    else:
        out = f"<manufacturedLabeledDrug>{code}{name}</manufacturedLabeledDrug>"
    maker = (
        f"<manufacturerOrganization><name>{_t(p.maker)}</name></manufacturerOrganization>" if p.maker else ""
    )
    return _ids(p.ids, least=0) + out + maker


def _amount(tag: str, v: Value) -> str:
    if not _REAL.fullmatch(v.text):
        return f'<{tag} nullFlavor="{v.null or "OTH"}"/>'
    return f"<{tag}{_a('value', v.text)}{_a('unit', ''.join(v.unit.split()))}/>"


def _media(e: Entry) -> str:
    files = [v for v in e.values if v.data]
    if not files:
        return _observation(e)
    return f'<observationMedia classCode="OBS" moodCode="EVN">{_ids(e.ids, least=0)}{value(files[0], "")}</observationMedia>'


def value(v: Value, kind: str | None = None) -> str:
    """A value with its xsi:type; one that its type cannot hold is written as text."""
    said = v.type if kind is None else kind
    if v.code is not None:
        return _code("value", v.code, "CE" if said == "CE" else "CD")
    if v.id is not None:
        made = _id(v.id, "value")
        return made.replace("<value", '<value xsi:type="II"', 1)
    if v.data:
        typed = ' xsi:type="ED"' if kind is None else ""
        return f'<value{typed}{_a("mediaType", v.media_type)} representation="B64">{_t(v.data)}</value>'
    if v.low or v.high:
        return _interval(v)
    if not v.text:
        return f'<value xsi:type="{said if said in ("ST", "CD", "PQ", "BL", "TS", "INT", "REAL", "MO", "ED") else "ST"}" nullFlavor="{v.null or "NI"}"/>'
    if said in ("PQ", "REAL", "INT", "MO"):
        if compared := _COMPARED.fullmatch(v.text):
            end = "high" if compared[1].startswith("<") else "low"
            shut = "true" if compared[1].endswith("=") else "false"
            if _REAL.fullmatch(compared[2]):
                unit = _a("unit", "".join(v.unit.split()))
                return f'<value xsi:type="IVL_PQ"><{end} value="{compared[2]}"{unit} inclusive="{shut}"/></value>'
        elif _REAL.fullmatch(v.text) and (said != "INT" or v.text.lstrip("+-").isdigit()):
            unit = (
                _a("currency" if said == "MO" else "unit", "".join(v.unit.split()))
                if said in ("PQ", "MO")
                else ""
            )
            return f'<value xsi:type="{said}" value="{v.text}"{unit}/>'
    elif said == "BL" and v.text in ("true", "false"):
        return f'<value xsi:type="BL" value="{v.text}"/>'
    elif said == "TS" and (found := _stamp(v.text)):
        return f'<value xsi:type="TS" value="{found}"/>'
    return f'<value xsi:type="{"ED" if said == "ED" else "ST"}">{_t(f"{v.text} {v.unit}".strip())}</value>'


def _interval(v: Value) -> str:
    if v.type.startswith("RTO"):
        halves = "".join(
            f'<{tag} xsi:type="PQ"{_a("value", h.text)}{_a("unit", "".join(h.unit.split()))}/>'
            for tag, h in (("numerator", v.low), ("denominator", v.high))
            if h
        )
        return f'<value xsi:type="RTO_PQ_PQ">{halves}</value>'
    if "TS" in v.type:
        return _time("value", v, typed=True)
    ends = "".join(_amount(tag, h) for tag, h in (("low", v.low), ("high", v.high)) if h)
    return f'<value xsi:type="IVL_PQ">{ends}</value>'
