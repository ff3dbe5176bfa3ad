"""Value sets compiled: which codes belong to one, whether it can be enumerated, or why that cannot be said.

A compiled set has *items* (codes known one by one) and *open parts* (a code system that is not held, or only by its grammar:
a test answers yes, no or "nobody knows").  Include, exclude, intersection and nesting follow ValueSet.compose of FHIR R4
(clause 4.9.4): the filters of one include all hold, value sets within one include are intersected, includes are joined.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lianxin.record.problems import Problem, refuse
from lianxin.record.terminology import grammars, patterns
from lianxin.record.terminology.concepts import Concept, Designation, System, designations, dicts
from lianxin.record.terminology.sources import Finder, split

DEEPEST = 20  # value sets within value sets
WORK = 1_500_000  # concepts looked at for one set
SEARCH = 3000  # what looking for a definition counts as
PATTERN = 5000  # what making a regular expression counts as
LARGEST = 500_000  # codes of one set

Test = Callable[[str], "bool | None"]


@dataclass(slots=True, frozen=True)
class Item:
    """One code of a set; ``given`` is what the value set itself says about it (display, designations)."""

    system: str
    code: str
    concept: Concept | None = None
    given: dict[str, Any] | None = None
    home: System | None = None

    def display(self, language: str = "") -> str:
        """The name to show: in the language asked for if there is one, else the value set's own word, else the code system's."""
        given = self.given or {}
        concept, own = self.concept, self.home.language if self.home else ""
        if language:
            found = Concept(self.code, "", designations=self._said()).named(language, "")
            if not found and concept is not None:
                found = concept.named(language, own, default="")
            if found:
                return found
        if given.get("display"):
            return str(given["display"])
        return concept.display if concept is not None else grammars.display(self.system, self.code)

    def designations(self) -> list[Designation]:
        """Every further name: the value set's own, then the code system's."""
        return self._said() + (self.concept.designations if self.concept else [])

    def _said(self) -> list[Designation]:
        return designations(self.given) if self.given else []

    @property
    def inactive(self) -> bool:
        """Whether the code system has retired the code."""
        return self.concept is not None and self.concept.inactive

    def haystack(self) -> str:
        """Where a filter text looks."""
        own = str((self.given or {}).get("display") or "")
        if self.concept is None:
            return patterns.haystack(self.code, [own])
        extra = "\n" + patterns.fold(own) if own and own != self.concept.display else ""
        return self.concept.haystack() + extra


@dataclass
class Part:
    """A set of codes: those known, and for other systems a test."""

    items: dict[tuple[str, str], Item] = field(default_factory=dict)
    open: list[tuple[str, Test]] = field(default_factory=list)

    def has(self, system: str, code: str) -> bool | None:
        """Whether a code is in: yes, no, or None when nobody here knows."""
        if (system, code) in self.items:
            return True
        found: bool | None = False
        for name, test in self.open:
            if name == system:
                one = test(code)
                if one:
                    return True
                if one is None:
                    found = None
        return found


@dataclass
class Compiled(Part):
    """A whole value set. ``systems``: url -> version of the code systems used; ``looked``: the database was asked."""

    url: str = ""
    version: str = ""
    systems: dict[str, str] = field(default_factory=dict)
    bare: dict[str, list[str]] = field(default_factory=dict)  # code -> its systems
    blind: frozenset[str] = frozenset()  # systems that do not mind case
    folded: set[tuple[str, str]] = field(default_factory=set)
    looked: bool = False
    rows: list[tuple[str, str, str]] | None = None

    def member(self, system: str | None, code: str) -> bool | None:
        """Whether a code is in the set; with ``system`` None in any system of it.  None: nobody here knows."""
        if system is not None:
            if system in self.blind and (system, code.casefold()) in self.folded:
                return True
            return self.has(system, code)
        if code in self.bare:
            return True
        answers = [test(code) for _, test in self.open]
        return True if True in answers else None if None in answers else False

    def finish(self) -> "Compiled":
        """Make the look-up tables."""
        for system, code in self.items:
            self.bare.setdefault(code, []).append(system)
        self.blind = frozenset(
            {i.system for i in self.items.values() if i.home is not None and not i.home.case_sensitive}
        )
        if self.blind:
            self.folded = {(s, c.casefold()) for s, c in self.items if s in self.blind}
        return self


class Compiler:
    """Compiles one value set and those it imports."""

    def __init__(
        self,
        finder: Finder,
        versions: dict[str, str] | None = None,
        default_versions: dict[str, str] | None = None,
    ) -> None:
        self.finder = finder
        self.work = WORK
        self.path: list[str] = []
        self.systems: dict[str, str] = {}
        self.versions = versions or {}
        self.default_versions = default_versions or {}
        self.done: dict[str, Part] = {}
        self.found: dict[tuple[str, str], System | None] = {}

    def compile(self, resource: dict[str, Any]) -> Compiled:
        """The compiled set; 422 when it is circular, too large, or uses what is not supported."""
        part = self._value_set(resource)
        url, version = str(resource.get("url") or ""), str(resource.get("version") or "")
        return Compiled(part.items, part.open, url, version, self.systems, looked=self.finder.looked).finish()

    def _value_set(self, resource: dict[str, Any]) -> Part:
        name = str(resource.get("url") or "")
        if name and name in self.path:
            chain = " → ".join([*self.path[self.path.index(name) :], name])[:600]
            raise refuse(
                422,
                "processing",
                f"值集相互循环引用：{chain}",
                f"the value sets import each other in a circle: {chain}",
                "ValueSet.compose",
            )
        if len(self.path) >= DEEPEST:
            raise refuse(
                422,
                "too-costly",
                f"值集引用超过 {DEEPEST} 层",
                f"value sets are nested more than {DEEPEST} deep",
                "ValueSet.compose",
            )
        self.path.append(name)
        try:
            return self._composed(resource)
        finally:
            self.path.pop()

    def _composed(self, resource: dict[str, Any]) -> Part:
        compose = resource.get("compose")
        if not isinstance(compose, dict):
            return self._expanded(resource)
        whole = Part()
        for number, include in enumerate(dicts(compose, "include")):
            part = self._include(include, f"ValueSet.compose.include[{number}]")
            for key, item in part.items.items():
                whole.items.setdefault(key, item)
            whole.open += part.open
            if len(whole.items) > LARGEST:
                raise _costly()
        if compose.get("inactive") is False:
            whole.items = {k: i for k, i in whole.items.items() if not i.inactive}
        for number, exclude in enumerate(dicts(compose, "exclude")):
            whole = self._without(whole, self._include(exclude, f"ValueSet.compose.exclude[{number}]"))
        expansion = resource.get("expansion")
        if whole.open and isinstance(expansion, dict) and expansion.get("contains"):
            listed = self._expanded(resource)  # it could be expanded where it was made
            if not _partial(expansion):
                return listed
        return whole

    def _expanded(self, resource: dict[str, Any]) -> Part:
        """A value set that comes only with its expansion."""
        part = Part()
        stack = list(reversed(dicts(resource.get("expansion"), "contains")))
        while stack:
            row = stack.pop()
            self._spend(1)
            stack += reversed(dicts(row, "contains"))
            system, code = str(row.get("system") or ""), str(row.get("code") or "")
            if code and row.get("abstract") is not True:
                home = self._find(system, "") if system else None
                concept = home.find(code) if home else None
                part.items.setdefault((system, code), Item(system, code, concept, row, home))
        return part

    def _spend(self, work: int) -> None:
        self.work -= work
        if self.work < 0:
            raise _costly()

    def _find(self, url: str, version: str) -> System | None:
        if (url, version) not in self.found:
            self._spend(SEARCH)
            self.found[url, version] = self.finder.system(url, version)
        return self.found[url, version]

    def _include(self, include: dict[str, Any], place: str) -> Part:
        self._spend(10)
        part: Part | None = None
        if url := include.get("system"):
            version = (
                self.versions.get(str(url))
                or str(include.get("version") or "")
                or self.default_versions.get(str(url), "")
            )
            part = self._system(str(url), version, include, place)
        imports = include.get("valueSet")
        for canonical in imports if isinstance(imports, list) else []:
            nested = self._nested(str(canonical), place)
            part = nested if part is None else self._both(part, nested)
        if part is None:
            raise refuse(
                422,
                "required",
                "include/exclude 须有 system 或 valueSet",
                "an include or exclude has a system or a valueSet",
                place,
            )
        return part

    def _nested(self, canonical: str, place: str) -> Part:
        if canonical in self.done:
            self._spend(len(self.done[canonical].items))
            return self.done[canonical]
        self._spend(SEARCH)
        found = self.finder.resource("ValueSet", canonical) or self.finder.implicit(canonical)
        if found is None:
            raise refuse(
                422,
                "not-found",
                f"没有被引用的值集 {canonical[:300]}",
                f"there is no value set {canonical[:300]}, which this one imports",
                f"{place}.valueSet",
            )
        made = self.done[canonical] = self._value_set(found)
        return made

    def _system(self, url: str, version: str, include: dict[str, Any], place: str) -> Part:
        system = self._find(url, version)
        self.systems[url] = version or (system.version if system else "")
        if listed := include.get("concept"):
            return self._listed(url, system, listed)
        filters = dicts(include, "filter")
        if system is not None and system.content != "not-present":
            self._spend(sum(PATTERN for row in filters if row.get("op") == "regex"))
            tests = [filter_test(system, row, f"{place}.filter[{n}]") for n, row in enumerate(filters)]
            self._spend(len(system.concepts) * (1 + len(tests)))
            items = {
                (url, c.code): Item(url, c.code, c, None, system)
                for c in system.concepts.values()
                if all(test(c) for test in tests)
            }
            part = Part(items)
            if not system.complete:  # a code that is not held may exist all the same
                held = system.concepts
                part.open.append((url, lambda code: False if code in held else None))
            return part
        grammar = grammars.test(url)
        if grammar is not None and not filters:
            return Part(open=[(url, grammar)])
        return Part(open=[(url, lambda code: None)])

    def _listed(self, url: str, system: System | None, listed: Any) -> Part:
        items = {}
        for row in listed if isinstance(listed, list) else []:
            self._spend(1)
            code = str(row.get("code") or "") if isinstance(row, dict) else ""
            if code:
                concept = system.find(code) if system else None
                items[(url, code)] = Item(url, code, concept, row, system)
        return Part(items)

    def _both(self, one: Part, other: Part) -> Part:
        """What is in both; what only one of them can say stays open."""
        self._spend(len(one.items) * (1 + len(other.open)) + len(other.items) * (1 + len(one.open)))
        items: dict[tuple[str, str], Item] = {}
        unsure: dict[str, set[str]] = {}
        for first, second in ((one, other), (other, one)):
            for key, item in first.items.items():
                answer = second.has(*key)
                if answer:
                    items.setdefault(key, item)
                elif answer is None:
                    unsure.setdefault(key[0], set()).add(key[1])
        made = Part(items)
        for system in {s for s, _ in one.open} & {s for s, _ in other.open}:
            made.open.append((system, _also(one, other, system)))
        for system, codes in unsure.items():
            made.open.append((system, _perhaps(frozenset(codes))))
        return made

    def _without(self, whole: Part, out: Part) -> Part:
        """A set less another; a code that may be excluded is neither in nor out."""
        self._spend(len(whole.items) * (1 + len(out.open)))
        unsure: dict[str, set[str]] = {}
        items: dict[tuple[str, str], Item] = {}
        for key, item in whole.items.items():
            answer = out.has(*key)
            if answer is False:
                items[key] = item
            elif answer is None:
                unsure.setdefault(key[0], set()).add(key[1])
        made = Part(items)
        for system, test in whole.open:
            made.open.append((system, _less(test, out, system)))
        for system, codes in unsure.items():
            made.open.append((system, _perhaps(frozenset(codes))))
        return made


def _partial(expansion: dict[str, Any]) -> bool:
    total, rows = expansion.get("total"), dicts(expansion, "contains")
    return isinstance(total, int) and total > len(rows) and not any(r.get("contains") for r in rows)


def _costly() -> Problem:
    return refuse(
        422,
        "too-costly",
        "值集过大或过于复杂，请缩小范围",
        "the value set is too large or too involved; make it narrower",
        "ValueSet.compose",
    )


def _also(one: Part, other: Part, system: str) -> Test:
    def test(code: str) -> bool | None:
        answers = (one.has(system, code), other.has(system, code))
        return False if False in answers else None if None in answers else True

    return test


def _perhaps(codes: frozenset[str]) -> Test:
    return lambda code: None if code in codes else False


def _less(test: Test, out: Part, system: str) -> Test:
    def remaining(code: str) -> bool | None:
        answer = test(code)
        if answer is False:
            return False
        excluded = out.has(system, code)
        return False if excluded else None if excluded is None else answer

    return remaining


def filter_test(system: System, row: dict[str, Any], place: str) -> Callable[[Concept], bool]:
    """The test of one filter of an include (R4 filter-operator); 422 for an operator or value that is not supported."""
    name, op, value = str(row.get("property") or ""), str(row.get("op") or ""), str(row.get("value") or "")
    if name in ("concept", "code") and op in ("is-a", "descendent-of", "is-not-a", "generalizes"):
        return _hierarchy(system, op, value)
    if op == "regex":
        matches = patterns.full(value)
        return lambda c: any(matches(text) for text in _values(c, name))
    if op in ("=", "in", "not-in"):
        wanted = {value} if op == "=" else {v for part in value.split(",") if (v := part.strip())}
        if op == "not-in":
            return lambda c: not any(text in wanted for text in _values(c, name))
        return lambda c: any(text in wanted for text in _values(c, name))
    if op == "exists" and value in ("true", "false"):
        return lambda c: bool(_values(c, name)) == (value == "true")
    raise refuse(
        422,
        "not-supported",
        f"不支持过滤条件 {name[:60]} {op[:30]} {value[:60]}",
        f"the filter {name[:60]} {op[:30]} {value[:60]} is not supported",
        place,
    )


def _hierarchy(system: System, op: str, value: str) -> Callable[[Concept], bool]:
    root = system.find(value)
    code = root.code if root else value
    if op == "generalizes":
        above = system.ancestors(code) if root else frozenset()
        return lambda c: c.code in above
    below = system.descendants(code) if root else frozenset()
    if op == "is-a":
        return lambda c: c.code in below
    if op == "descendent-of":
        return lambda c: c.code in below and c.code != code
    return lambda c: c.code not in below


def _values(concept: Concept, name: str) -> Iterable[str]:
    """The values of a property of a concept, as text; code, display, parent and child count as properties."""
    if name in ("code", "concept"):
        return (concept.code,)
    if name == "display":
        return (concept.display,)
    if name == "definition":
        return (concept.definition,) if concept.definition else ()
    if name == "parent":
        return concept.parents
    if name == "child":
        return concept.children
    if name == "inactive":
        return ("true" if concept.inactive else "false",)
    found = [_text(value) for code, _, value in concept.properties if code == name]
    if not found and name == "notSelectable":
        return ("true" if concept.abstract else "false",)
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.get("code") or "") if isinstance(value, dict) else str(value)


def canonical_of(resource: dict[str, Any]) -> str:
    """``url|version`` of a resource."""
    url, version = str(resource.get("url") or ""), str(resource.get("version") or "")
    return f"{url}|{version}" if version else url


__all__ = ["Compiled", "Compiler", "Item", "Part", "canonical_of", "filter_test", "split"]
