"""Small sound resources, and what every answer of a FHIR door must look like."""

from __future__ import annotations

import itertools
from typing import Any

from tests.reliability.installation import Answer

SYSTEM = "urn:lianxin:conformance"
_serial = itertools.count(1)


def unique() -> str:
    """A value no other test uses."""
    return f"c{next(_serial)}"


def practitioner(value: str, **more: Any) -> dict[str, Any]:
    """A Practitioner with one identifier."""
    return {"resourceType": "Practitioner", "identifier": [{"system": SYSTEM, "value": value}],
            "name": [{"text": "甄一", "family": "甄"}], **more}  # fmt: skip


def patient(value: str, **more: Any) -> dict[str, Any]:
    """A Patient with one identifier."""
    return {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": value}], "gender": "female",
            "name": [{"text": "安然", "family": "安"}], "birthDate": "1980-05-06", **more}  # fmt: skip


def observation(subject: str, value: float = 120, when: str = "2026-03-01", **more: Any) -> dict[str, Any]:
    """A systolic pressure of ``Patient/…``."""
    return {"resourceType": "Observation", "status": "final", "subject": {"reference": subject}, "effectiveDateTime": when,
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}, **more}  # fmt: skip


def entry(method: str, url: str, resource: Any = None, full_url: str = "", **request: str) -> dict[str, Any]:
    """One entry of a batch or transaction."""
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    return {"fullUrl": full_url, **made} if full_url else made


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    """A Bundle."""
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {})}


def good(answer: Answer, *statuses: int) -> Answer:
    """Fails unless the answer has one of the statuses and, with a body, speaks FHIR JSON."""
    assert answer.status in statuses, f"{answer.status} {answer.raw.decode(errors='replace')[:600]}"
    if answer.raw:
        assert answer.headers["content-type"].startswith("application/fhir+json"), answer.headers
    return answer


def refused(answer: Answer, *statuses: int, codes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The first issue of a refusal: an OperationOutcome with severity, code and words in both languages."""
    good(answer, *statuses)
    outcome = answer.json
    assert outcome["resourceType"] == "OperationOutcome"
    issue: dict[str, Any] = outcome["issue"][0]
    assert issue["severity"] in ("error", "fatal")
    assert issue["code"]
    assert issue.get("diagnostics") or issue.get("details", {}).get("text")
    if codes:
        assert issue["code"] in codes, issue
    return issue


def link(found: dict[str, Any], relation: str) -> str | None:
    """The address of a link of a Bundle."""
    return next((one["url"] for one in found.get("link", []) if one["relation"] == relation), None)


def matches(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of a searchset that matched."""
    return [one["resource"] for one in found.get("entry", []) if one["search"]["mode"] == "match"]
