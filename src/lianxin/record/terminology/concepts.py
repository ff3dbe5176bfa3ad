"""A code system in memory: its concepts with names, properties, parents and children."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lianxin.record.problems import refuse
from lianxin.record.terminology import patterns

MAX_CONCEPTS = 500_000
REMEMBERED = 1_000_000  # codes in the sets of descendants kept
INACTIVE = frozenset({"retired", "inactive"})

Designation = tuple[str, dict[str, Any] | None, str]  # language, use, value


@dataclass(slots=True)
class Concept:
    """One code. ``designations``: (language, use, value); ``properties``: (code, value[x] name, value)."""

    code: str
    display: str
    definition: str = ""
    parents: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    designations: list[Designation] = field(default_factory=list)
    properties: list[tuple[str, str, Any]] = field(default_factory=list)
    abstract: bool = False
    inactive: bool = False
    words: str | None = None

    def named(self, language: str, own: str, default: str | None = None) -> str:
        """The name in a language (``zh-CN,en;q=0.8``: the first there is), else ``default`` (the display); ``own`` is the code
        system's language."""
        for wanted in tongues(language):
            if own and (own.lower() == wanted or own.lower().startswith(wanted.partition("-")[0])):
                return self.display
            for tongue, _, value in self.designations:
                if tongue.lower() == wanted or tongue.lower().startswith(wanted.partition("-")[0]):
                    return value
        return self.display if default is None else default

    def haystack(self) -> str:
        """Where a filter text looks."""
        if self.words is None:
            self.words = patterns.haystack(self.code, [self.display, *(v for _, _, v in self.designations)])
        return self.words


def tongues(language: str) -> list[str]:
    """Languages of an Accept-Language text, in the order written, at most five."""
    return [
        t for part in language.split(",")[:5] if (t := part.partition(";")[0].strip().lower()) and t != "*"
    ]


@dataclass
class System:
    """A code system: ``content`` as in FHIR; concepts by code, in the order of their definition."""

    url: str
    version: str = ""
    name: str = ""
    title: str = ""
    content: str = "complete"
    language: str = ""
    case_sensitive: bool = True
    value_set: str = ""
    concepts: dict[str, Concept] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    below: dict[str, frozenset[str]] = field(default_factory=dict)
    weight: int = 0  # codes in ``below``

    @property
    def complete(self) -> bool:
        """Whether a code that is not held does not exist."""
        return self.content == "complete"

    def find(self, code: str) -> Concept | None:
        """The concept of a code (whatever its case, when the system does not mind)."""
        found = self.concepts.get(code)
        if found is None and not self.case_sensitive:
            found = self.concepts.get(self.folded.get(code.casefold(), ""))
        return found

    def finish(self) -> "System":
        """Link children to parents once every concept is in."""
        for concept in list(self.concepts.values()):
            for child in concept.children:
                if (other := self.concepts.get(child)) and concept.code not in other.parents:
                    other.parents.append(concept.code)
        for concept in self.concepts.values():
            for parent in concept.parents:
                if (other := self.concepts.get(parent)) and concept.code not in other.children:
                    other.children.append(concept.code)
        if not self.case_sensitive:
            self.folded = {code.casefold(): code for code in self.concepts}
        return self

    def descendants(self, code: str) -> frozenset[str]:
        """A code and everything below it."""
        found = self.below.get(code)
        if found is None:
            found = frozenset(self._walk(code, "children"))
            self.weight += len(found)
            if self.weight > REMEMBERED:
                self.below, self.weight = {}, len(found)
            self.below[code] = found
        return found

    def ancestors(self, code: str) -> frozenset[str]:
        """A code and everything above it."""
        return frozenset(self._walk(code, "parents"))

    def relation(self, a: str, b: str) -> str | None:
        """How one code stands to another (R4 concept-subsumption-outcome); None when either is not held."""
        one, other = self.find(a), self.find(b)
        if one is None or other is None:
            return None
        if one is other:
            return "equivalent"
        if other.code in self.descendants(one.code):
            return "subsumes"
        return "subsumed-by" if one.code in self.descendants(other.code) else "not-subsumed"

    def _walk(self, code: str, way: str) -> Iterator[str]:
        seen, stack = {code}, [code]
        while stack:
            at = stack.pop()
            yield at
            concept = self.concepts.get(at)
            for other in getattr(concept, way) if concept else ():
                if other not in seen and other in self.concepts:
                    seen.add(other)
                    stack.append(other)


def dicts(holder: Any, name: str) -> list[dict[str, Any]]:
    """The objects of a list member, whatever stands there (a client in ``warn`` mode may have stored anything)."""
    rows = holder.get(name) if isinstance(holder, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def from_resource(resource: dict[str, Any]) -> System:
    """The system that a CodeSystem resource defines."""
    system = System(
        url=str(resource.get("url") or ""),
        version=str(resource.get("version") or ""),
        name=str(resource.get("name") or ""),
        title=str(resource.get("title") or resource.get("name") or ""),
        content=str(resource.get("content") or "complete"),
        language=str(resource.get("language") or ""),
        case_sensitive=resource.get("caseSensitive") is not False,
        value_set=str(resource.get("valueSet") or ""),
    )
    stack = [(c, "") for c in reversed(dicts(resource, "concept"))]
    while stack:
        row, parent = stack.pop()
        concept = _concept(row)
        if parent:
            concept.parents.append(parent)
        held = system.concepts.setdefault(concept.code, concept)
        if held is not concept:  # the same code again, further up or down: one concept with both parents
            held.parents += [p for p in concept.parents if p not in held.parents]
        if len(system.concepts) > MAX_CONCEPTS:
            raise refuse(
                422,
                "too-costly",
                f"代码系统 {system.url[:200]} 超过 {MAX_CONCEPTS} 个概念",
                f"the code system {system.url[:200]} has more than {MAX_CONCEPTS} concepts",
            )
        stack += [(c, concept.code) for c in reversed(dicts(row, "concept"))]
    return system.finish()


def _concept(row: dict[str, Any]) -> Concept:
    concept = Concept(
        str(row.get("code") or ""),
        str(row.get("display") or row.get("code") or ""),
        str(row.get("definition") or ""),
    )
    concept.designations = designations(row)
    for given in dicts(row, "property"):
        name = next((k for k in given if k.startswith("value")), "")
        if name:
            take(concept, str(given.get("code") or ""), name, given[name])
    return concept


def designations(row: dict[str, Any]) -> list[Designation]:
    """The further names of a concept of a CodeSystem or a ValueSet."""
    return [
        (
            str(d.get("language") or ""),
            use if isinstance(use := d.get("use"), dict) else None,
            str(d["value"]),
        )
        for d in dicts(row, "designation")
        if d.get("value")
    ]


def take(concept: Concept, code: str, kind: str, value: Any) -> None:
    """Note a property, and what the well-known ones mean (FHIR R4 CodeSystem, clause 4.8.9)."""
    concept.properties.append((code, kind, value))
    if code in ("parent", "subsumedBy") and isinstance(value, str):
        concept.parents.append(value)
    elif code == "child" and isinstance(value, str):
        concept.children.append(value)
    elif code in ("notSelectable", "abstract"):
        concept.abstract = concept.abstract or value is True
    elif code == "inactive":
        concept.inactive = concept.inactive or value is True
    elif code == "status":
        concept.inactive = concept.inactive or value in INACTIVE
