"""What a mapping is given and what it gives back, the ids it makes, and what it knows of kinds and sections."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any

from lianxin.record.profiles.build import CS
from lianxin.standards.text import Text

Json = dict[str, Any]

MAPPING = "cda@1"
NAMESPACE = uuid.UUID("5b0a7b0e-7a54-5f0e-9a4e-1f6d2a3c8e10")
PART_OF_DOCUMENT = CS + "cda-part"
REQUESTS = frozenset({"500.2", "500.3", "500.4", "500.5", "500.52"})
"""Kinds whose medication entries are prescriptions."""
CATEGORIES = {
    "8716-3": "vital-signs",
    "30954-2": "laboratory",
    "29545-1": "exam",
    "29762-2": "social-history",
    "47519-4": "procedure",
}
"""Sections whose observations have a category."""
REPORTS = {
    "500.6": ("检查报告", "RAD", ("DE04.50.131.00",)),
    "500.7": ("检验报告", "LAB", ("DE04.50.130.00",)),
}
"""Kinds that are reports: name, HL7 service section, elements that are the conclusion."""
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
STATUS = {
    "completed": "final",
    "active": "preliminary",
    "aborted": "cancelled",
    "cancelled": "cancelled",
    "nullified": "entered-in-error",
}


@dataclass(frozen=True)
class Context:
    """Whose document it is.

    ``source`` names the sender and is part of every id made, so that two hospitals may use one document number; ``key`` is
    the document's lasting key when the registry knows better than the document (a replacement without a set id);
    ``organization`` is the reference of the institution it comes from.
    """

    source: str = ""
    organization: str = ""
    key: str = ""


@dataclass
class Mapped:
    """What a document became.  ``resources`` begins with the Composition; all have stable ids.

    ``shared``: ids of resources that other documents of the same visit make too (its Encounter): merge, do not replace.
    ``mapping``: name and version of the mapping.
    """

    resources: list[Json]
    warnings: list[Text] = field(default_factory=list)
    mapping: str = MAPPING
    shared: frozenset[str] = frozenset()

    @property
    def composition(self) -> Json:
        """The Composition."""
        return self.resources[0]


def uuid5(name: str) -> str:
    """The text of ``uuid.uuid5(NAMESPACE, name)``, in a quarter of its time."""
    h = hashlib.sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{int(h[16], 16) & 3 | 8:x}{h[17:20]}-{h[20:32]}"


def among(coding: Json, codings: list[Json]) -> bool:
    """Whether a coding stands among others already."""
    return any(c.get("code") == coding["code"] and c.get("system") == coding.get("system") for c in codings)
