"""What a consortium looks like on paper, and how it is stood up through the network's own import door."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from lianxin.scenarios import names
from lianxin.standards import pinyin


@dataclass
class Blueprint:
    """Rows for the network's import sheets, and the consortium that joins them."""

    code: str
    name: str
    name_en: str
    form: str
    founded: str
    division: str
    lead: str
    rules: dict[str, Any] = field(default_factory=dict)
    institutions: list[dict[str, Any]] = field(default_factory=list)
    departments: list[dict[str, Any]] = field(default_factory=list)
    people: list[dict[str, Any]] = field(default_factory=list)
    capabilities: list[tuple[str, str, str, str]] = field(
        default_factory=list
    )  # institution, kind, code, name
    agreements: list[tuple[str, str, str, str]] = field(default_factory=list)  # a, b, kind, number
    roles: dict[str, str] = field(default_factory=dict)  # institution -> lead|branch|member (default member)

    def institution(self, code: str, name: str, **more: Any) -> None:
        """Add an institution row."""
        self.institutions.append({"code": code, "name": name, **more})

    def department(self, institution: str, code: str, name: str, name_en: str, specialty: str) -> None:
        """Add a department, and the capability it gives its institution."""
        self.departments.append(
            {
                "institution": institution,
                "code": code,
                "name": name,
                "name_en": name_en,
                "specialty": specialty,
            }
        )
        self.capabilities.append((institution, "specialty", specialty, name))

    def staff(
        self, rng: Random, institution: str, role: str, title: str, department: str = "", born: int = 0
    ) -> str:
        """Add a practitioner with one post; returns the practitioner's code."""
        sex = rng.choice(("male", "female"))
        name = names.full(rng, sex, born or rng.randint(1966, 1996))
        code = f"{institution}-P{len(self.people) + 1:04d}"
        self.people.append(
            {
                "code": code,
                "name": name,
                "name_en": " ".join(
                    part.capitalize() for part in (pinyin.full(name[1:]), pinyin.full(name[:1]))
                ),
                "sex": sex,
                "title": title,
                "institution": institution,
                "department": department,
                "role": role,
            }
        )
        return code


def english(place: str) -> str:
    """A place in pinyin without its kind: 白鹤镇 → Baihe."""
    return pinyin.term(place.rstrip("街道镇乡村")).capitalize()
