"""The sections of the International Patient Summary: what is searched for each, what counts, and how it reads.

Codes are the LOINC section codes of the IPS Implementation Guide (HL7, hl7.fhir.uv.ips); titles and narrative are in Chinese and English.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from lianxin.record.store import Result

LOINC = "http://loinc.org"
ABSENT = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"
XHTML = "http://www.w3.org/1999/xhtml"
ENDED = frozenset({"inactive", "resolved", "remission"})
NO_MORE = frozenset({"entered-in-error", "not-done", "cancelled", "nullified"})
OVER = frozenset({"completed", "stopped", "cancelled", "entered-in-error", "draft", "not-taken"})

Resource = dict[str, Any]
Searches = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def codes_of(resource: Resource, name: str) -> set[str]:
    """The codes of a CodeableConcept element (or of several)."""
    value = resource.get(name)
    concepts = value if isinstance(value, list) else [value] if value else []
    return {c["code"] for one in concepts for c in one.get("coding", []) if c.get("code")}


def sound(resource: Resource) -> bool:
    """Whether a resource stands: not entered in error, not refuted, not left undone."""
    verified = codes_of(resource, "verificationStatus") & {"entered-in-error", "refuted"}
    return resource.get("status") not in NO_MORE and not verified


def active(resource: Resource) -> bool:
    """Whether a problem or allergy still holds."""
    return sound(resource) and not codes_of(resource, "clinicalStatus") & ENDED


def past(resource: Resource) -> bool:
    """Whether a problem is over."""
    return sound(resource) and bool(codes_of(resource, "clinicalStatus") & ENDED)


def taken(resource: Resource) -> bool:
    """Whether a medicine is being taken."""
    return sound(resource) and resource.get("status") not in OVER


@dataclass(frozen=True)
class Section:
    """One section: its LOINC code and titles, the searches that fill it, and which results count."""

    code: str
    display: str
    zh: str
    en: str
    searches: Searches
    keep: Callable[[Resource], bool]
    most: int = 100
    required: bool = False
    absent: tuple[str, str] = ("", "")  # code and display of "nothing is known"

    @property
    def title(self) -> str:
        """Both titles."""
        return f"{self.zh} {self.en}"

    def unknown(self, subject: dict[str, str]) -> tuple[str, Resource]:
        """(fullUrl, resource) that says that nothing is known."""
        rtype, _ = self.searches[0]
        rid = str(uuid.uuid4())
        code = {"coding": [{"system": ABSENT, "code": self.absent[0], "display": self.absent[1]}]}
        made: Resource = {"resourceType": rtype, "id": rid}
        if rtype == "MedicationStatement":
            made |= {"status": "unknown", "medicationCodeableConcept": code, "subject": subject}
        else:
            status = "allergyintolerance" if rtype == "AllergyIntolerance" else "condition"
            system = f"http://terminology.hl7.org/CodeSystem/{status}-clinical"
            made["clinicalStatus"] = {"coding": [{"system": system, "code": "active"}]}
            made |= {"code": code, "patient" if rtype == "AllergyIntolerance" else "subject": subject}
        return f"urn:uuid:{rid}", made


NEWEST = ("_sort", "-date")
SECTIONS: tuple[Section, ...] = (
    Section(
        "48765-2", "Allergies and adverse reactions Document", "过敏与不良反应", "Allergies and Intolerances",
        (("AllergyIntolerance", ()),), active, required=True, absent=("no-allergy-info", "No information about allergies"),
    ),
    Section(
        "11450-4", "Problem list - Reported", "现有问题", "Problem List",
        (("Condition", ()),), active, required=True, absent=("no-problem-info", "No information about problems"),
    ),
    Section(
        "10160-0", "History of Medication use Narrative", "用药", "Medication Summary",
        (("MedicationStatement", ()), ("MedicationRequest", (("status", "active,on-hold,unknown"),))), taken, required=True,
        absent=("no-medication-info", "No information about medications"),
    ),
    Section("11369-6", "History of Immunization Narrative", "预防接种", "Immunizations", (("Immunization", (NEWEST,)),), sound),
    Section(
        "30954-2", "Relevant diagnostic tests/laboratory data Narrative", "检查检验结果", "Results",
        (("Observation", (("category", "laboratory,imaging"), NEWEST)), ("DiagnosticReport", (NEWEST,))), sound, most=50,
    ),
    Section("47519-4", "History of Procedures Document", "手术与操作", "History of Procedures", (("Procedure", (NEWEST,)),), sound, most=50),
    Section("46264-8", "History of medical device use", "医疗器械", "Medical Devices", (("DeviceUseStatement", ()),), sound),
    Section(
        "8716-3", "Vital signs", "生命体征", "Vital Signs", (("Observation", (("category", "vital-signs"), NEWEST)),), sound, most=30,
    ),
    Section("11348-0", "History of Past illness Narrative", "既往史", "Past Problems", (("Condition", ()),), past),
    Section(
        "29762-2", "Social history Narrative", "社会史", "Social History", (("Observation", (("category", "social-history"), NEWEST)),),
        sound, most=20,
    ),
    Section("18776-5", "Plan of care note", "诊疗计划", "Plan of Care", (("CarePlan", (("status", "active,on-hold,draft"),)),), sound),
)  # fmt: skip


@dataclass
class Filled:
    """A section with its entries."""

    section: Section
    results: list[Result]
    resources: list[Resource]

    def as_section(self, entries: list[dict[str, str]]) -> dict[str, Any]:
        """``Composition.section``."""
        rows = [(name_of(r), value_of(r), time_of(r)) for r in self.resources]
        return {
            "title": self.section.title,
            "code": {
                "coding": [{"system": LOINC, "code": self.section.code, "display": self.section.display}]
            },
            "text": narrative(self.section.title, ["名称 Name", "内容 Value", "时间 Date"], rows),
            "entry": entries,
        }


def narrative(title: str, heads: list[str], rows: list[tuple[str, str, str]]) -> dict[str, str]:
    """A Narrative: a table of the entries, or the word that nothing is known."""
    if rows:
        head = "".join(f"<th>{escape(h)}</th>" for h in heads)
        lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        inner = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    else:
        inner = "<p>无可用信息 No information available</p>" if heads else ""
    return {"status": "generated", "div": f'<div xmlns="{XHTML}"><p>{escape(title)}</p>{inner}</div>'}


def concept_text(concept: Any) -> str:
    """How a CodeableConcept reads."""
    if not isinstance(concept, dict):
        return ""
    codings = concept.get("coding", [])
    shown = next((c["display"] for c in codings if c.get("display")), "")
    return str(concept.get("text") or shown or next((c["code"] for c in codings if c.get("code")), ""))


def name_of(resource: Resource) -> str:
    """What an entry is called."""
    for name in ("code", "vaccineCode", "medicationCodeableConcept", "type"):
        if resource.get(name):
            return concept_text(resource[name])
    for name in ("medicationReference", "device"):
        if resource.get(name):
            return str(resource[name].get("display", ""))
    return str(resource.get("title") or resource.get("description") or resource["resourceType"])


def value_of(resource: Resource) -> str:
    """What an entry says: a value, dose instructions, a conclusion, a status."""
    quantity = resource.get("valueQuantity")
    if quantity:
        unit = quantity.get("unit") or quantity.get("code") or ""
        return f"{quantity.get('comparator', '')}{quantity.get('value', '')} {unit}".strip()
    if resource.get("valueCodeableConcept"):
        return concept_text(resource["valueCodeableConcept"])
    parts = [f"{concept_text(c.get('code'))} {value_of(c)}".strip() for c in resource.get("component", [])]
    doses = [d.get("text", "") for d in (resource.get("dosageInstruction") or resource.get("dosage") or [])]
    status = concept_text(resource.get("clinicalStatus")) or str(resource.get("status", ""))
    return str(
        resource.get("valueString") or "; ".join(filter(None, parts)) or "; ".join(filter(None, doses))
        or resource.get("conclusion") or status
    )  # fmt: skip


def time_of(resource: Resource) -> str:
    """When an entry was."""
    for name in (
        "effectiveDateTime", "onsetDateTime", "performedDateTime", "occurrenceDateTime", "authoredOn", "recordedDate", "dateAsserted",
        "created", "issued",
    ):  # fmt: skip
        if resource.get(name):
            return str(resource[name])[:10]
    for name in ("effectivePeriod", "onsetPeriod", "performedPeriod", "period"):
        if resource.get(name):
            return str(resource[name].get("start", ""))[:10]
    return ""
