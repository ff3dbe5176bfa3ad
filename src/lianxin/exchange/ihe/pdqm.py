"""What the CapabilityStatement says of PIXm and PDQm.

ITI-78 is the door's search of Patients (GET and POST), ITI-119 its ``$match``; both answer only with people the caller may see.
"""

from __future__ import annotations

from typing import Any

from lianxin.exchange.fhir import handlers

ACTORS = (
    "https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager",
    "https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.PatientDemographicsSupplierMatch",
)
PROFILES = (
    "https://profiles.ihe.net/ITI/PIXm/StructureDefinition/IHE.PIXm.Patient",
    "https://profiles.ihe.net/ITI/PDQm/StructureDefinition/IHE.PDQm.Patient",
)


def register() -> None:
    """Add to the statement."""
    handlers.register_capability(tell)


def tell(statement: dict[str, Any]) -> None:
    """Name the actors, and the profiles of a Patient they take."""
    named = statement.setdefault("instantiates", [])
    named += [one for one in ACTORS if one not in named]
    for resource in statement["rest"][0]["resource"]:
        if resource["type"] == "Patient":
            profiles = resource.setdefault("supportedProfile", [])
            profiles += [one for one in PROFILES if one not in profiles]
