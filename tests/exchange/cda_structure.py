"""A checker of our own for the order and number of elements in a CDA R2 document: what the schema says, as a table.

It is not the schema (that may not be shipped): it knows the elements this platform writes and those that may stand between them,
their order, how often they occur, which attributes they need, and the types a value may have.  Unknown elements are errors.
"""

from __future__ import annotations

import re

from lxml import etree

NS = "{urn:hl7-org:v3}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}type"

_ORG = "id* name* telecom* addr* standardIndustryClassCode? asOrganizationPartOf?"
_ROLE = "templateId* id+ code? addr* telecom* assignedPerson? representedOrganization*"
_TAIL = "subject? specimen* performer* author* informant* participant* entryRelationship* reference* precondition*"
_STATEMENT = "act|encounter|observation|observationMedia|organizer|procedure|regionOfInterest|substanceAdministration|supply"
TABLE = {
    "ClinicalDocument": "realmCode* typeId! templateId* id! code! title? effectiveTime! confidentialityCode! languageCode? setId? "
    "versionNumber? copyTime? recordTarget+ author+ dataEnterer? informant* custodian! informationRecipient* legalAuthenticator? "
    "authenticator* participant* inFulfillmentOf* documentationOf* relatedDocument* authorization* componentOf? component!",
    "recordTarget": "templateId* patientRole!",
    "patientRole": "id+ addr* telecom* patient? providerOrganization?",
    "patient": "id? name* administrativeGenderCode? birthTime? maritalStatusCode? religiousAffiliationCode? raceCode? ethnicGroupCode? "
    "guardian* birthplace? languageCommunication*",
    "guardian": "id* code? addr* telecom* guardianPerson? guardianOrganization?",
    "guardianPerson": "name*", "birthplace": "place!", "place": "name? addr?",
    "providerOrganization": _ORG, "representedOrganization": _ORG, "scopingOrganization": _ORG, "wholeOrganization": _ORG,
    "serviceProviderOrganization": _ORG, "receivedOrganization": _ORG, "manufacturerOrganization": _ORG,
    "asOrganizationPartOf": "id* code? statusCode? effectiveTime? wholeOrganization?",
    "author": "templateId* functionCode? time! assignedAuthor!",
    "assignedAuthor": "id+ code? addr* telecom* assignedPerson? assignedAuthoringDevice? representedOrganization?",
    "assignedPerson": "name*", "associatedPerson": "name*",
    "dataEnterer": "time? assignedEntity!", "informant": "assignedEntity? relatedEntity?",
    "custodian": "assignedCustodian!", "assignedCustodian": "representedCustodianOrganization!",
    "representedCustodianOrganization": "id+ name? telecom? addr?",
    "informationRecipient": "intendedRecipient? name*",
    "intendedRecipient": "id* addr* telecom* informationRecipient? receivedOrganization?",
    "legalAuthenticator": "time! signatureCode! assignedEntity!", "authenticator": "time! signatureCode! assignedEntity!",
    "assignedEntity": _ROLE,
    "participant": "functionCode? time? associatedEntity? awarenessCode? participantRole?",
    "associatedEntity": "id* code? addr* telecom* associatedPerson? scopingOrganization?",
    "inFulfillmentOf": "order!", "order": "id+ code? priorityCode?",
    "documentationOf": "serviceEvent!", "serviceEvent": "id* code? effectiveTime? performer*",
    "relatedDocument": "parentDocument!", "parentDocument": "id+ code? text? setId? versionNumber?",
    "componentOf": "encompassingEncounter!",
    "encompassingEncounter": "id* code? effectiveTime! dischargeDispositionCode? responsibleParty? encounterParticipant* location?",
    "responsibleParty": "assignedEntity!", "encounterParticipant": "time? assignedEntity!",
    "location": "healthCareFacility!", "healthCareFacility": "id* code? location? serviceProviderOrganization?",
    "structuredBody": "confidentialityCode? languageCode? component+",
    "section": "templateId* id? code? title? text? confidentialityCode? languageCode? subject? author* informant* entry* component*",
    "entry": f"({_STATEMENT})!", "entryRelationship": f"sequenceNumber? seperatableInd? ({_STATEMENT})!",
    "observation": "templateId* id* code! derivationExpr? text? statusCode? effectiveTime? priorityCode? repeatNumber? languageCode? "
    f"value* interpretationCode* methodCode* targetSiteCode* {_TAIL} referenceRange*",
    "organizer": "templateId* id* code? statusCode! effectiveTime? subject? specimen* performer* author* informant* participant* "
    "reference* precondition* component*",
    "procedure": "templateId* id* code! text? statusCode? effectiveTime? priorityCode? languageCode? methodCode* approachSiteCode* "
    f"targetSiteCode* {_TAIL}",
    "act": f"templateId* id* code! text? statusCode? effectiveTime? priorityCode? languageCode? {_TAIL}",
    "substanceAdministration": "templateId* id* code? text? statusCode? effectiveTime* priorityCode? repeatNumber? routeCode? "
    f"approachSiteCode* doseQuantity? rateQuantity? maxDoseQuantity? administrationUnitCode? consumable! {_TAIL}",
    "supply": f"templateId* id* code? text? statusCode? effectiveTime* priorityCode* repeatNumber? independentInd? quantity? "
    f"expectedUseTime? product? {_TAIL}",
    "observationMedia": f"templateId* id* languageCode? value! {_TAIL}",
    "consumable": "manufacturedProduct!",
    "manufacturedProduct": "templateId* id* (manufacturedLabeledDrug|manufacturedMaterial)! manufacturerOrganization?",
    "manufacturedLabeledDrug": "code? name?", "manufacturedMaterial": "code? name? lotNumberText?",
    "performer": "time? modeCode? assignedEntity!",
    "referenceRange": "observationRange!", "observationRange": "code? text? value? interpretationCode?",
}  # fmt: skip
_COMPONENT = {"ClinicalDocument": "(structuredBody|nonXMLBody)!", "structuredBody": "section!", "section": "section!",
              "organizer": f"sequenceNumber? seperatableInd? ({_STATEMENT})!"}  # fmt: skip
_CODED = ("originalText? qualifier* translation*", ())
DATATYPES = frozenset(
    {"id", "realmCode", "typeId", "templateId", "setId", "name", "title", "languageCode", "versionNumber", "signatureCode", "telecom",
     "addr", "birthTime", "time", "statusCode", "lotNumberText", "low", "high", "numerator", "denominator", "originalText",
     "doseQuantity", "rateQuantity", "quantity", "repeatNumber"}
)  # fmt: skip
TYPES = frozenset(
    {"ST", "ED", "CD", "CE", "PQ", "IVL_PQ", "INT", "REAL", "BL", "MO", "TS", "IVL_TS", "II", "RTO_PQ_PQ"}
)
_NARRATIVE = frozenset(
    {
        "paragraph",
        "content",
        "table",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "td",
        "th",
        "br",
        "list",
        "item",
        "caption",
        "sub",
        "sup",
    }
)
_ITEM = re.compile(r"(\(([\w|]+)\)|\w+)([*+?!])")
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_TS = re.compile(r"\d{4}(\d\d){0,5}(\.\d+)?([+-]\d{4})?")
_REAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def problems(data: bytes) -> list[str]:
    """What is wrong with a document, each with its path; empty when the table is kept."""
    root = etree.fromstring(data)
    if root.tag != f"{NS}ClinicalDocument":
        return ["the root is no ClinicalDocument"]
    out: list[str] = []
    _check(root, "", out)
    return out


def _name(el: etree._Element) -> str:
    return etree.QName(el).localname


def _check(el: etree._Element, path: str, out: list[str]) -> None:
    name = _name(el)
    here = f"{path}/{name}"
    if not str(el.tag).startswith(NS):
        out.append(f"{here}: foreign namespace")
    if name == "text" and path.endswith("/section"):
        out.extend(
            f"{here}: {_name(one)} is no narrative"
            for one in el.iterdescendants()
            if _name(one) not in _NARRATIVE
        )
        return
    parent = path.rpartition("/")[2]
    rule = _COMPONENT.get(parent) if name == "component" else TABLE.get(name)
    if rule is not None and not (name == "text" or (name == "location" and parent == "healthCareFacility")):
        _order(el, rule, here, out)
    elif (
        name not in DATATYPES
        and name not in ("text",)
        and not name.endswith("Code")
        and name not in ("code", "value", "effectiveTime", "translation")
    ):
        out.append(f"{here}: not in the table")
    _leaf(el, name, here, out)
    for one in el:
        _check(one, here, out)


def _order(el: etree._Element, rule: str, here: str, out: list[str]) -> None:
    items = [(set((m[2] or m[1]).split("|")), m[3]) for m in _ITEM.finditer(rule)]
    children = [_name(one) for one in el]
    at = 0
    for names, often in items:
        n = 0
        while at < len(children) and children[at] in names:
            n, at = n + 1, at + 1
        if often in "!+" and n == 0:
            out.append(f"{here}: {'|'.join(sorted(names))} is missing")
        if often in "!?" and n > 1:
            out.append(f"{here}: {'|'.join(sorted(names))} {n} times")
    if at < len(children):
        out.append(f"{here}: {children[at]} out of order or unknown")


def _leaf(el: etree._Element, name: str, here: str, out: list[str]) -> None:
    null = el.get("nullFlavor")
    root, value, kind = el.get("root"), el.get("value"), el.get(XSI)
    if root is not None and not _OID.fullmatch(root):
        out.append(f"{here}: root {root!r} is neither OID nor UUID")
    if (system := el.get("codeSystem")) is not None and not _OID.fullmatch(system):
        out.append(f"{here}: codeSystem {system!r} is no OID")
    if (code := el.get("code")) is not None and (not code or re.search(r"\s", code)):
        out.append(f"{here}: code {code!r}")
    if any(v == "" for v in el.attrib.values()):
        out.append(f"{here}: empty attribute")
    if name in ("id", "setId") and root is None and null is None:
        out.append(f"{here}: neither root nor nullFlavor")
    if name in ("effectiveTime", "time", "birthTime") and value is not None and not _TS.fullmatch(value):
        out.append(f"{here}: {value!r} is no TS")
    if name == "value":
        typed = here.endswith("observationMedia/value") or kind in TYPES
        if not typed:
            out.append(f"{here}: type {kind!r}")
        if kind in ("PQ", "REAL", "MO") and null is None and not _REAL.fullmatch(value or ""):
            out.append(f"{here}: {value!r} is no {kind}")
        if kind == "INT" and null is None and not re.fullmatch(r"[+-]?\d+", value or ""):
            out.append(f"{here}: {value!r} is no INT")
        if kind == "BL" and null is None and value not in ("true", "false"):
            out.append(f"{here}: {value!r} is no BL")
        if kind == "TS" and null is None and not _TS.fullmatch(value or ""):
            out.append(f"{here}: {value!r} is no TS")
        if (unit := el.get("unit")) is not None and re.search(r"\s", unit):
            out.append(f"{here}: unit {unit!r}")
