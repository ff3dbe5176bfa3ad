"""The invariants of R4: which can fail on a resource, and which do.

Rules stand on types and elements (``data/invariants.json``).  For each type a plan is made once: the rules on the object
itself, and the members below which some rule could fail.  A rule that is true of an empty object is asked only when a member
it names is there.  What the text shows (no extensions, no ``#`` references, no periods) prunes the plan further, so that
most of a resource is never looked at.  About 5 µs for a small Observation.
"""

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from lianxin.record import bindings, definitions, fhirpath
from lianxin.record.fhirpath_values import QUANTITIES, FhirPathError, Node, fields
from lianxin.record.invariants_hot import HOT, Test
from lianxin.record.problems import Issue
from lianxin.standards.text import Text

BUDGET = 3_000_000  # steps of one rule of R4 on one element
# Checked by the structural walk already.
STRUCTURAL = {"dom-2", "txt-1", "txt-2"}
# Rules that can only fail when the text shows something (see ``mask``): the bit of each.
EXTENSIONS, COMPARATORS, CONTAINED, FRAGMENTS, PERIODS, DATA = (1 << i for i in range(6))
SIGNS = {
    "Resource|dom-3": CONTAINED,
    "Resource|dom-4": CONTAINED,
    "Resource|dom-5": CONTAINED,
    "Reference|ref-1": FRAGMENTS,
    "Period|per-1": PERIODS,
    "Attachment|att-1": DATA,
}
ALL = (1 << 6) - 1
WARNINGS = 1 << 6  # ask the rules that only warn as well
LOOK = ("children()", "descendants()", "$this", "extension", "%", "hasValue()", "trace")


@dataclass(slots=True)
class Rule:
    """One invariant where it stands."""

    key: str
    place: str
    expression: str
    text: Text
    severity: str
    test: Test
    needs: frozenset[str] | None = None  # asked only when one of these members is there; None: always
    sign: int = 0  # bit of what must be in the text; 0: nothing


@dataclass(slots=True)
class Plan:
    """What to look at in objects of one type."""

    rules: list[Rule] = field(default_factory=list)
    below: dict[str, tuple[str, list[Rule]]] = field(default_factory=dict)


class Scene:
    """The resource a rule is evaluated in, and the outermost one."""

    def __init__(self, resource: dict[str, Any], root: dict[str, Any] | None = None) -> None:
        self.resource = resource
        self.root = resource if root is None else root

    @cached_property
    def contained(self) -> set[str]:
        """Ids of the contained resources."""
        return {str(one.get("id")) for one in self.root.get("contained", ()) if type(one) is dict}

    @cached_property
    def nodes(self) -> tuple[Node, Node]:
        """The resource and the outermost one as FHIRPath nodes."""
        return Node.of(self.resource), Node.of(self.root)


@cache
def _tables() -> dict[str, list[list[str]]]:
    return json.loads((definitions.DATA / "invariants.json").read_text(encoding="utf-8"))


@cache
def _chinese() -> dict[str, str]:
    return json.loads((definitions.DATA / "invariants_zh.json").read_text(encoding="utf-8"))


def bit(name: str) -> int:
    """The bit of what a rule's text must show (0: nothing)."""
    return COMPARATORS if name.endswith("|sqty-1") else SIGNS.get(name, 0)


def mask(raw: bytes | None) -> int:
    """Which kinds of rules could fail, going by the text (None, or a text that hides ASCII behind escapes: all)."""
    if raw is None or (b"\\" in raw and b"\\u00" in raw):
        return ALL
    found = EXTENSIONS if b"xtension" in raw else 0
    if b"omparator" in raw:
        found |= COMPARATORS
    if b'"contained"' in raw:
        found |= CONTAINED
    if b"#" in raw and b'"#' in raw:
        found |= FRAGMENTS
    if b'"end"' in raw and b'"start"' in raw:
        found |= PERIODS
    return found | DATA if b'data"' in raw else found


@cache
def rules_at(place: str, kind: str = "") -> list[Rule]:
    """The rules on a type or element; ``kind`` is the type there, where an element has a choice of them."""
    made = []
    kind = kind or kind_at(place)
    for key, severity, expression, english in _tables().get(place, ()):
        if key in STRUCTURAL or (key == "sqty-1" and kind not in QUANTITIES):
            continue
        chinese = _chinese().get(f"{place}|{key}") or _chinese().get(key) or english
        name = f"{place}|{key}"
        test = HOT.get(name) or _evaluated(kind, expression)
        rule = Rule(key, place, expression, Text(f"{key}：{chinese}", f"{key}: {english}"), severity, test)
        rule.needs = _needs(kind, expression)
        rule.sign = bit(name)
        made.append(rule)
    strength, url = bindings.elements().get(place, ("", ""))
    if strength == "required" and kind == "CodeableConcept":
        made.append(_binding(place, url))
    return made


def _binding(place: str, url: str) -> Rule:
    """The required binding of a concept: one of its codings is in the value set (not known: let through)."""
    text = Text(f"概念须取自值集 {url}", f"the concept must be from the value set {url}")
    return Rule("binding", place, "", text, "error", lambda v, s: bindings.within(url, v) is not False)


def _evaluated(kind: str, expression: str) -> Test:
    run = fhirpath.compile(expression)

    def test(value: Any, scene: Scene) -> bool:
        resource, root = scene.nodes
        node = Node.of(value) if kind == "Resource" else Node(value, kind)
        return fhirpath.boolean(run(node, resource, root, BUDGET)) is True

    return test


@cache
def kind_at(place: str) -> str:
    """The type of what stands at a place (``Organization.telecom`` -> ContactPoint)."""
    if place == "Resource" or definitions.is_complex(place):
        return place
    parent, _, name = place.rpartition(".")
    if definitions.is_complex(parent):
        return fields(parent)[name.removesuffix("[x]")][0][1]
    return place


def _needs(kind: str, expression: str) -> frozenset[str] | None:
    """Members without which a rule cannot fail: those it names, when it is true of an object that has none of them."""
    if kind == "Resource" and "contained" in expression:
        return frozenset({"contained"})
    if not definitions.is_complex(kind) or any(piece in expression for piece in LOOK):
        return None
    scene = Scene({"resourceType": "Basic"})
    try:
        if not _evaluated(kind, expression)({}, scene):
            return None
    except FhirPathError:
        return None
    names = {text.strip("`") for group, text in fhirpath.Parser(expression).tokens if group == "name"}
    keys = {key for name in names for key, _ in fields(kind).get(name, ())}
    return frozenset(keys | {"_" + key for key in keys})


@cache
def _edges(type_name: str) -> list[tuple[str, str, str, list[Rule]]]:
    """(JSON key, type, place, element rules) of the members of a type."""
    made = []
    for name in definitions.elements(type_name):
        place = f"{type_name}.{name}"
        for key, kind in fields(type_name)[name.removesuffix("[x]")]:
            own = [] if definitions.is_complex(place) else rules_at(place, kind)
            made.append((key, kind, place, own))
    return made


def _own(type_name: str) -> list[Rule]:
    extra = (
        rules_at("Resource")
        if "text" in definitions.elements(type_name) and type_name in definitions.types()
        else []
    )
    return [*rules_at(type_name), *extra]


def _shows(rule: Rule, seen: int) -> bool:
    return (rule.severity == "error" or bool(seen & WARNINGS)) and (not rule.sign or bool(rule.sign & seen))


@cache
def _active(seen: int) -> frozenset[str]:
    """Types in or below which some rule could fail, given what the text shows."""
    names = [*_type_names(), "Resource"]
    active = {name for name in names if name != "Resource" and any(_shows(r, seen) for r in _own(name))}
    active.add("Resource")
    grown = True
    while grown:
        grown = False
        for name in names:
            if name in active or name == "Resource":
                continue
            for key, kind, _, own in _edges(name):
                if key in ("extension", "modifierExtension") and not seen & EXTENSIONS:
                    continue
                if kind in active or any(_shows(r, seen) for r in own):
                    active.add(name)
                    grown = True
                    break
    return frozenset(active)


@cache
def _type_names() -> tuple[str, ...]:
    return tuple(
        name for name in json.loads((definitions.DATA / "elements.json").read_text(encoding="utf-8"))
    )


@cache
def plan(type_name: str, seen: int) -> Plan:
    """The plan of a type under a mask."""
    made = Plan([rule for rule in _own(type_name) if _shows(rule, seen)])
    active = _active(seen)
    for key, kind, _, own in _edges(type_name):
        if key in ("extension", "modifierExtension") and not seen & EXTENSIONS:
            continue
        element_rules = [rule for rule in own if _shows(rule, seen)]
        if kind in active or element_rules:
            made.below[key] = (kind, element_rules)
        if seen & EXTENSIONS and not definitions.is_complex(kind) and kind != "Resource":
            made.below["_" + key] = ("Element", [])
    return made


def broken(resource: dict[str, Any], raw: bytes | None = None, *, warnings: bool = False) -> list[Issue]:
    """The invariants a structurally sound resource breaks, and its concepts outside required value sets.

    ``raw`` is its text, which spares most of the looking; ``warnings`` asks the rules of best practice too.
    """
    issues: list[Issue] = []
    rtype = resource["resourceType"]
    _visit(resource, rtype, mask(raw) | (WARNINGS if warnings else 0), Scene(resource), (rtype,), issues)
    return issues


Path = tuple[Any, ...]


def spelled(path: Path) -> str:
    """The path as text: nested pairs of a path and a key with its index."""
    parts: list[str] = []
    while len(path) == 3:
        path, key, index = path
        parts.append(f"{key}[{index}]" if index >= 0 else key)
    return ".".join([path[0], *reversed(parts)])


def _visit(
    value: dict[str, Any], kind: str, seen: int, scene: Scene, path: Path, issues: list[Issue]
) -> None:
    what = plan(kind, seen)
    for rule in what.rules:
        needs = rule.needs
        if needs is None or not needs.isdisjoint(value):
            _ask(rule, value, scene, path, issues)
    below = what.below
    for key, item in value.items():
        found = below.get(key)
        if found is None:
            continue
        type_name, rules = found
        if type(item) is list:
            for i, one in enumerate(item):
                _enter(one, type_name, rules, seen, scene, (path, key, i), issues)
        else:
            _enter(item, type_name, rules, seen, scene, (path, key, -1), issues)


def _enter(
    value: Any, kind: str, rules: list[Rule], seen: int, scene: Scene, path: Path, issues: list[Issue]
) -> None:
    for rule in rules:
        if value is not None:
            _ask(rule, value, scene, path, issues)
    if type(value) is not dict:
        return
    if kind == "Resource":
        kind = str(value.get("resourceType"))
        scene = Scene(value, scene.root if path[1] == "contained" else value)
    _visit(value, kind, seen, scene, path, issues)


def _ask(rule: Rule, value: Any, scene: Scene, path: Path, issues: list[Issue]) -> None:
    try:
        if rule.test(value, scene):
            return
        code = "code-invalid" if rule.key == "binding" else "invariant"
        issues.append(Issue(code, rule.text, spelled(path), rule.severity))
    except FhirPathError as error:
        issues.append(
            Issue(
                "too-costly",
                Text(f"{rule.key}：无法判断", f"{rule.key}: cannot be decided: {error}"),
                spelled(path),
            )
        )


__all__ = ["Rule", "Scene", "broken", "kind_at", "plan", "rules_at", "spelled"]
