"""Short ways to write StructureDefinitions, code systems and rules."""

from collections.abc import Iterable, Mapping
from typing import Any

from lianxin.standards.text import Text

BASE = "http://lianxin.example/fhir/"
CS = "http://lianxin.example/cs/"
VS = "http://lianxin.example/vs/"
ID = "http://lianxin.example/id/"
CORE = "http://hl7.org/fhir/StructureDefinition/"
TRANSLATION = CORE + "translation"
VERSION = "1.0.0"
DATE = "2026-07-01"

Resource = dict[str, Any]


def profile_url(name: str) -> str:
    """Canonical url of one of our profiles or extensions."""
    return f"{BASE}StructureDefinition/{name}"


def translated(english: str, chinese: str) -> Resource:
    """The ``_name`` beside an English text that brings the Chinese one."""
    return {
        "extension": [
            {
                "url": TRANSLATION,
                "extension": [
                    {"url": "lang", "valueCode": "zh-CN"},
                    {"url": "content", "valueString": chinese},
                ],
            }
        ]
    }


def element(ident: str, *, rules: Iterable[Resource] = (), **more: Any) -> Resource:
    """An element of a differential: ``Patient.identifier:card.value`` with its path and slice name made from the id."""
    steps = [step.partition(":") for step in ident.split(".")]
    made: Resource = {"id": ident, "path": ".".join(step[0] for step in steps)}
    if steps[-1][2]:
        made["sliceName"] = steps[-1][2]
    constraints = list(rules)
    return made | more | ({"constraint": constraints} if constraints else {})


def rule(key: str, expression: str, english: str, chinese: str, severity: str = "error") -> Resource:
    """An invariant, worded in both languages."""
    return {
        "key": key,
        "severity": severity,
        "human": english,
        "_human": translated(english, chinese),
        "expression": expression,
    }


def by_value(path: str, kind: str = "value") -> Resource:
    """Open slicing by one discriminator."""
    return {"discriminator": [{"type": kind, "path": path}], "rules": "open"}


def bound(value_set: str, strength: str = "required") -> Resource:
    """A binding to one of our value sets."""
    return {"strength": strength, "valueSet": f"{VS}{value_set}"}


def reference(*names: str) -> list[Resource]:
    """The type of a reference to resource types or to our profiles."""
    return [{"code": "Reference", "targetProfile": [n if ":" in n else CORE + n for n in names]}]


def head(rtype: str, name: str, title: Text, about: str) -> Resource:
    """What every definition begins with."""
    return {
        "resourceType": rtype,
        "id": f"lx-{name}",
        "url": f"{BASE}{rtype}/{name}",
        "version": VERSION,
        "name": "Lianxin" + "".join(part.capitalize() for part in name.split("-")),
        "title": title.en,
        "_title": translated(title.en, title.zh),
        "status": "active",
        "experimental": False,
        "date": DATE,
        "publisher": "Lianxin",
        "description": about,
    }


def rooted(rtype: str, elements: list[Resource]) -> list[Resource]:
    """The elements with the root first, wherever its rules were written."""
    root = next((one for one in elements if one["id"] == rtype), element(rtype))
    return [root, *(one for one in elements if one["id"] != rtype)]


def profile(name: str, rtype: str, title: Text, about: str, elements: list[Resource]) -> Resource:
    """A profile on a resource type."""
    return head("StructureDefinition", name, title, about) | {
        "fhirVersion": "4.0.1",
        "kind": "resource",
        "abstract": False,
        "type": rtype,
        "baseDefinition": CORE + rtype,
        "derivation": "constraint",
        "differential": {"element": rooted(rtype, elements)},
    }


def extension(
    name: str, title: Text, about: str, contexts: Iterable[str], elements: list[Resource]
) -> Resource:
    """An extension; ``elements`` are below ``Extension``."""
    return head("StructureDefinition", name, title, about) | {
        "fhirVersion": "4.0.1",
        "kind": "complex-type",
        "abstract": False,
        "context": [{"type": "element", "expression": place} for place in contexts],
        "type": "Extension",
        "baseDefinition": CORE + "Extension",
        "derivation": "constraint",
        "differential": {
            "element": rooted("Extension", [*elements, element("Extension.url", fixedUri=profile_url(name))])
        },
    }


def code_system(name: str, title: Text, about: str, concepts: Mapping[str, Text]) -> list[Resource]:
    """A code system and the value set of all its codes, under the addresses the platform uses in its data."""
    system = head("CodeSystem", name, title, about) | {
        "url": CS + name,
        "caseSensitive": True,
        "valueSet": VS + name,
        "content": "complete",
        "count": len(concepts),
        "concept": [
            {
                "code": code,
                "display": label.zh,
                "designation": [{"language": "en", "value": label.en}],
            }
            for code, label in concepts.items()
        ],
    }
    values = head("ValueSet", name, title, about) | {
        "url": VS + name,
        "compose": {"include": [{"system": CS + name}]},
    }
    return [system, values]


def implementation_guide(content: Iterable[Resource]) -> Resource:
    """The guide that lists everything."""
    made = head(
        "ImplementationGuide",
        "consortium",
        Text("联心医联体数据交换实施指南", "Lianxin consortium data exchange"),
        "What institutions of a consortium exchange: people, institutions, referrals, recognised results.",
    )
    return made | {
        "packageId": "lianxin.consortium",
        "license": "Apache-2.0",
        "fhirVersion": ["4.0.1"],
        "definition": {
            "resource": [
                {
                    "reference": {"reference": f"{one['resourceType']}/{one['id']}"},
                    "name": one["title"],
                    "description": one["description"],
                    "exampleBoolean": False,
                }
                for one in content
            ]
        },
    }
