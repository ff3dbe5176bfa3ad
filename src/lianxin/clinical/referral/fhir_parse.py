"""Reading referrals out of FHIR: Parameters whose names are form fields, or a Bundle with ServiceRequest and its papers.

Pure but for nothing: resources in, form data out. What cannot be read is refused with its FHIRPath.
"""

from __future__ import annotations

from typing import Any

from lianxin.clinical.referral import rules
from lianxin.record.problems import refuse
from lianxin.standards import identifiers
from lianxin.standards.codes import ICD10

FORM = "http://lianxin.example/cs/referral-form"
PRIORITIES = {"routine": "routine", "urgent": "urgent", "asap": "urgent", "stat": "emergency"}
LOINC_FACTS = {
    "8480-6": "bp_systolic", "8462-4": "bp_diastolic", "8867-4": "heart_rate", "59408-5": "spo2", "2708-6": "spo2",
    "9279-1": "respiratory_rate", "15074-8": "glucose", "2339-0": "glucose", "4548-4": "hba1c", "2823-3": "potassium",
}  # fmt: skip
LABELS = {part.label.zh: code for code, part in rules.PARTS.items()}


def snake(name: str) -> str:
    """``toInstitution`` → ``to_institution`` (both spellings are taken)."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def value_of(element: dict[str, Any]) -> Any:
    """The value[x] of a parameter, input or part, as the form takes it."""
    for name, value in element.items():
        if not name.startswith("value"):
            continue
        if isinstance(value, dict):
            if "reference" in value:
                return value["reference"]
            if "coding" in value:
                return value["coding"][0].get("code") if value["coding"] else value.get("text")
            return value.get("code") or value.get("value")
        return value
    return None


def parameters(resource: dict[str, Any]) -> dict[str, Any]:
    """Parameters → form data; ``part`` makes a group (``pack``, ``facts``); a name twice is refused."""
    if resource.get("resourceType") != "Parameters":
        raise refuse(400, "structure", "请发送 Parameters", "send a Parameters resource", "resourceType")
    found: dict[str, Any] = {}
    for number, parameter in enumerate(resource.get("parameter") or []):
        place = f"Parameters.parameter[{number}]"
        if not isinstance(parameter, dict) or not isinstance(parameter.get("name"), str):
            raise refuse(400, "structure", "参数须有 name", "a parameter needs its name", place)
        name = snake(parameter["name"])
        if name in found:
            raise refuse(400, "duplicate", f"参数「{name}」重复", f"parameter “{name}” is given twice", place)
        if isinstance(parameter.get("part"), list):
            found[name] = {
                snake(str(p.get("name", ""))): value_of(p) for p in parameter["part"] if isinstance(p, dict)
            }
        elif "resource" in parameter:
            found[name] = parameter["resource"]
        else:
            found[name] = value_of(parameter)
    return found


def inputs(task: dict[str, Any]) -> dict[str, Any]:
    """``Task.input`` entries typed with our form's codes → form data."""
    found: dict[str, Any] = {}
    for entry in task.get("input") or []:
        for one in (entry.get("type") or {}).get("coding") or []:
            if one.get("system") == FORM and one.get("code"):
                found[snake(one["code"])] = value_of(entry)
    return found


def bundle(resource: dict[str, Any]) -> dict[str, Any]:
    """A Bundle: one ServiceRequest, its papers (Composition sections), measurements (Observation), Consent → form data."""
    entries = [e.get("resource") for e in resource.get("entry") or [] if isinstance(e, dict)]
    requests = [r for r in entries if isinstance(r, dict) and r.get("resourceType") == "ServiceRequest"]
    if len(requests) != 1:
        raise refuse(
            400,
            "structure",
            "Bundle 中须有且仅有一个 ServiceRequest",
            "the Bundle must hold exactly one ServiceRequest",
            "Bundle.entry",
        )
    data = service_request(requests[0])
    pack: dict[str, str] = {}
    facts: dict[str, Any] = {}
    for other in entries:
        if not isinstance(other, dict):
            continue
        kind = other.get("resourceType")
        if kind == "Composition":
            pack |= _sections(other)
        elif kind == "Observation":
            facts |= _facts(other)
        elif kind == "Consent" and other.get("status") == "active":
            data |= {"consent": True, "consent_evidence": "signed"}
    return data | {"pack": pack, "facts": facts}


def service_request(resource: dict[str, Any]) -> dict[str, Any]:
    """The intent as form data."""
    data: dict[str, Any] = {"patient": (resource.get("subject") or {}).get("reference", "")}
    word = resource.get("priority", "routine")
    if word not in PRIORITIES:
        raise refuse(
            422, "code-invalid", "优先级不可识别", "the priority is not known", "ServiceRequest.priority"
        )
    data["priority"] = PRIORITIES[word]
    data["emergency"] = data["priority"] == "emergency"
    performers = resource.get("performer") or []
    if performers:
        data["to_institution"] = str(performers[0].get("reference", "")).removeprefix("Organization/")
    for concept in [
        *(resource.get("category") or []),
        *(resource.get("reasonCode") or []),
        resource.get("performerType") or {},
    ]:
        for one in concept.get("coding") or []:
            system, code = one.get("system", ""), one.get("code", "")
            if system == ICD10:
                data.setdefault("diagnosis_code", code)
                data.setdefault("diagnosis_name", one.get("display") or concept.get("text") or "")
            elif system.endswith("/cs/referral-direction"):
                data["direction"] = code
            elif system.endswith("/cs/referral-refer"):
                data["reason_code"] = code
            elif system.endswith("/cs/specialty"):
                data["specialty"] = code
    data.setdefault("direction", "up")
    notes = [n.get("text", "") for n in resource.get("note") or []]
    data["reason"] = "\n".join(n for n in notes if n)
    return data


def _sections(composition: dict[str, Any]) -> dict[str, str]:
    found = {}
    for section in composition.get("section") or []:
        codes = [c.get("code") for c in (section.get("code") or {}).get("coding") or []]
        name = next((c for c in codes if c in rules.PARTS), None) or LABELS.get(section.get("title", ""))
        text = plain((section.get("text") or {}).get("div", ""))
        if name and text:
            found[name] = text
    return found


def plain(div: str) -> str:
    """The text of a narrative."""
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []

        def handle_data(self, data: str) -> None:
            self.parts.append(data)

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag in ("br", "p", "li"):
                self.parts.append("\n")

    reader = Reader()
    reader.feed(div)
    return "".join(reader.parts).strip()


def _facts(observation: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for element in [observation, *(observation.get("component") or [])]:
        for one in (element.get("code") or {}).get("coding") or []:
            name = LOINC_FACTS.get(one.get("code", ""))
            number = (element.get("valueQuantity") or {}).get("value")
            if name and number is not None:
                found[name] = number
    return found


def person_reference(reference: Any) -> tuple[str, bool]:
    """(id, is it a person number?) of a Patient reference."""
    value = str(reference or "").removeprefix("Patient/").strip()
    return value, identifiers.number_valid(value)
