"""Profiles: a StructureDefinition with derivation ``constraint``, compiled once and held against resources.

The differential (or the snapshot, when there is no differential) becomes a tree of elements with their slices; a profile on
a profile is both.  Checked: cardinality, types and their profiles, reference targets, fixed and pattern values, lengths and
ranges, bindings, invariants, slicing by value, pattern, type, exists and profile.  Anybody who may write a StructureDefinition
may bring one along, so every evaluation has a budget and what cannot be understood is told, not guessed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lianxin.record import bindings, definitions, fhirpath
from lianxin.record.fhirpath_values import Context, FhirPathError, Node, at, compare, fields
from lianxin.record.problems import Issue
from lianxin.record.validate_walk import MOST
from lianxin.standards.text import Text

CORE = "http://hl7.org/fhir/StructureDefinition/"
STEPS = 400_000  # of all rules of a profile on one resource
RULE_STEPS = 60_000
MAX_PROFILES = 40  # profiles reached from one
MAX_ELEMENTS = 5000
SEVERITIES = {"required": "error", "extensible": "warning", "preferred": "information"}

Find = Callable[[str], dict[str, Any] | None]


@dataclass(slots=True)
class Part:
    """An element of a profile: what must hold of each value, what is below it, and its slices."""

    name: str
    definition: dict[str, Any] = field(default_factory=dict)
    below: dict[str, "Part"] = field(default_factory=dict)
    slices: dict[str, "Part"] = field(default_factory=dict)
    fixed: tuple[Any, str] | None = None
    pattern: tuple[Any, str] | None = None

    def child(self, name: str) -> "Part":
        """The part of a child element."""
        return self.below.setdefault(name, Part(name))


@dataclass
class Profile:
    """A compiled profile."""

    url: str
    kind: str
    base: str
    tree: Part
    doubts: list[str] = field(default_factory=list)


def compile_profile(resource: dict[str, Any]) -> Profile:
    """The tree of a StructureDefinition; ValueError when it is no constraint on a type of R4."""
    kind = str(resource.get("type", ""))
    if not definitions.is_complex(kind) and kind not in definitions.primitives():
        raise ValueError(f"{kind} is not a type of R4")
    made = Profile(str(resource.get("url", "")), kind, str(resource.get("baseDefinition", "")), Part(kind))
    elements = resource.get("differential", {}).get("element") or resource.get("snapshot", {}).get(
        "element", []
    )
    if len(elements) > MAX_ELEMENTS:
        raise ValueError("the profile has too many elements")
    current: dict[str, str] = {}  # path -> slice name last opened there, for elements without ids
    for element in elements:
        path = str(element.get("path", ""))
        steps = _steps(element, path, current)
        if steps is None or steps[0][0] != kind:
            made.doubts.append(f"element {path[:100]} is not understood")
            continue
        part = made.tree
        for name, slice_name in steps[1:]:
            part = part.child(name)
            if slice_name:
                part = part.slices.setdefault(slice_name, Part(name))
        _fill(part, element)
    return made


def _steps(element: dict[str, Any], path: str, current: dict[str, str]) -> list[tuple[str, str]] | None:
    """(name, slice) along an element, from its id, or from its path and the slices opened before it."""
    names = path.split(".")
    ident = str(element.get("id", ""))
    parts = [piece.partition(":") for piece in ident.split(".")]
    if ident and [p[0] for p in parts] == names:
        pairs = [(name, slice_name) for name, _, slice_name in parts]
    else:
        pairs = [(name, current.get(".".join(names[: i + 1]), "")) for i, name in enumerate(names)]
        for known in [k for k in current if k == path or k.startswith(path + ".")]:
            del current[known]
        pairs[-1] = (names[-1], str(element.get("sliceName", "")))
        if element.get("sliceName"):
            current[path] = str(element["sliceName"])
    return [_choice(pairs, i) for i in range(len(pairs))] if all(names) else None


def _choice(pairs: list[tuple[str, str]], i: int) -> tuple[str, str]:
    """``value[x]`` by its stem; ``valueQuantity`` stays and is read as the stem with that type."""
    name, slice_name = pairs[i]
    return name.removesuffix("[x]"), slice_name


def _fill(part: Part, element: dict[str, Any]) -> None:
    part.definition = {**part.definition, **element}
    for key, value in element.items():
        if key.startswith("fixed"):
            part.fixed = (value, key.removeprefix("fixed"))
        elif key.startswith("pattern"):
            part.pattern = (value, key.removeprefix("pattern"))


class Checker:
    """Holds one resource against profiles; ``find`` gives a StructureDefinition by its canonical url."""

    def __init__(self, resource: dict[str, Any], find: Find, most: int = MOST) -> None:
        self.root = Node.of(resource)
        self.find = find
        self.most = most
        self.issues: list[Issue] = []
        self.steps = STEPS
        self.compiled: dict[str, Profile | None] = {}
        self.doing: set[tuple[str, int]] = set()

    def profile(self, url: str) -> Profile | None:
        """A compiled profile (None: not known, or of R4 itself)."""
        if url in self.compiled or len(self.compiled) >= MAX_PROFILES:
            return self.compiled.get(url)
        made = None
        bare = url.split("|")[0]
        core = bare.startswith(CORE) and definitions.is_complex(bare.removeprefix(CORE))
        resource = None if core else self.find(url)
        if resource is not None and resource.get("derivation") == "constraint":
            made = compiled(resource)
        self.compiled[url] = made
        return made

    def tell(self, code: str, path: str, zh: str, en: str, severity: str = "error") -> None:
        """Note a problem."""
        if len(self.issues) < self.most:
            self.issues.append(Issue(code, Text(zh, en), path[:1000], severity))

    def against(self, url: str, node: Node, path: str) -> bool:
        """Hold a node against a profile and those it is based on; False when the profile is not known."""
        profile = self.profile(url)
        if profile is None:
            return False
        mark = (url, id(node.v))
        if mark in self.doing:
            return True
        self.doing.add(mark)
        try:
            if profile.base and profile.base != url and not profile.base.startswith(CORE + profile.kind):
                self.against(profile.base, node, path)
            for doubt in profile.doubts:
                self.tell(
                    "not-supported",
                    path,
                    f"档案 {url} 的一部分无法理解",
                    f"profile {url}: {doubt}",
                    "information",
                )
            if node.t != profile.kind:
                self.tell(
                    "structure",
                    path,
                    f"档案 {url} 只适用于 {profile.kind}",
                    f"the profile {url} is for {profile.kind}",
                )
            else:
                self.value(profile.tree, node, path, node if node.t in definitions.types() else self.root)
        finally:
            self.doing.discard(mark)
        return True

    # -- one value ------------------------------------------------------------------------------------------------------

    def value(self, part: Part, node: Node, path: str, resource: Node) -> None:
        """Everything a part says of one value."""
        definition = part.definition
        if part.fixed is not None and not same(part.fixed[0], node.v):
            self.tell(
                "value", path, f"取值应为 {short(part.fixed[0])}", f"the value must be {short(part.fixed[0])}"
            )
        if part.pattern is not None and not contains(node.v, part.pattern[0]):
            self.tell(
                "value",
                path,
                f"取值应包含 {short(part.pattern[0])}",
                f"the value must contain {short(part.pattern[0])}",
            )
        if definition:
            self.types(definition, node, path)
            self.limits(definition, node, path)
            self.binding(definition, node, path)
            self.rules(definition, node, path, resource)
        if part.below and type(node.v) is dict:
            for child in part.below.values():
                self.members(child, node, path, resource)

    def types(self, definition: dict[str, Any], node: Node, path: str) -> None:
        """The types allowed here, their profiles, and what references may lead to."""
        kinds = definition.get("type", ())
        if not kinds or "." not in str(definition.get("path", "")):
            return
        fitting = [
            k
            for k in kinds
            if _code(k) in (node.t, "Resource", "Element", "BackboneElement") or "." in node.t
        ]
        if not fitting:
            names = ", ".join(_code(k) for k in kinds)
            self.tell("structure", path, f"类型应为 {names}", f"the type must be {names}")
            return
        targets = [t for k in fitting for t in k.get("targetProfile", ())]
        if targets and type(node.v) is dict and type(node.v.get("reference")) is str:
            self.target(targets, node.v["reference"], path)
        profiles = [p for k in fitting for p in k.get("profile", ())]
        if profiles:
            self.one_of(profiles, node, path)

    def target(self, targets: list[str], reference: str, path: str) -> None:
        """A literal reference to a type that no target profile is about."""
        head, _, rest = reference.removeprefix("/").partition("/")
        if head not in definitions.types() or not rest:
            return
        allowed = set()
        for url in targets:
            bare = url.split("|")[0].removeprefix(CORE)
            if bare in definitions.types():
                allowed.add(bare)
            else:
                profile = self.profile(url)
                if profile is None:
                    return
                allowed.add(profile.kind)
        if head not in allowed and "Resource" not in {t.removeprefix(CORE) for t in targets}:
            names = ", ".join(sorted(allowed))
            self.tell("structure", f"{path}.reference", f"只能引用 {names}", f"must refer to {names}")

    def one_of(self, urls: list[str], node: Node, path: str) -> None:
        """At least one of the profiles of a type must be kept (unknown ones are taken as kept)."""
        known = [url for url in urls if self.profile(url) is not None]
        if len(known) < len(urls):
            return
        tries: list[list[Issue]] = []
        for url in known:
            found = self.aside(lambda url=url: self.against(url, node, path))  # type: ignore[misc]
            if not any(issue.severity == "error" for issue in found):
                self.issues += found[: self.most - len(self.issues)]
                return
            tries.append(found)
        if tries:
            self.issues += tries[0][: self.most - len(self.issues)]

    def aside(self, run: Callable[[], Any]) -> list[Issue]:
        """The issues something would tell, without telling them."""
        kept, self.issues = self.issues, []
        try:
            run()
            return self.issues
        finally:
            self.issues = kept

    def limits(self, definition: dict[str, Any], node: Node, path: str) -> None:
        """maxLength, minValue[x], maxValue[x]."""
        length = definition.get("maxLength")
        if type(length) is int and type(node.v) is str and len(node.v) > length:
            self.tell("value", path, f"最长 {length} 个字符", f"at most {length} characters")
        for key, bound in definition.items():
            least = key.startswith("minValue")
            if not least and not key.startswith("maxValue"):
                continue
            try:
                order = compare(node, Node(bound, node.t))
            except FhirPathError:
                order = None
            if order is not None and (order < 0 if least else order > 0):
                word = ("不小于", "at least") if least else ("不大于", "at most")
                self.tell(
                    "value",
                    path,
                    f"取值应{word[0]} {short(bound)}",
                    f"the value must be {word[1]} {short(bound)}",
                )

    def binding(self, definition: dict[str, Any], node: Node, path: str) -> None:
        """The binding to a value set; of what cannot be decided here nothing is told."""
        binding = definition.get("binding") or {}
        severity = SEVERITIES.get(str(binding.get("strength")))
        url = binding.get("valueSet")
        if (
            severity is None
            or type(url) is not str
            or node.v is None
            or bindings.within(url, node.v) is not False
        ):
            return
        if type(node.v) is dict and severity != "error" and not any(bindings.coded(node.v)):
            return
        self.tell(
            "code-invalid",
            path,
            f"代码不在值集 {url} 中",
            f"the code is not in the value set {url} ({binding['strength']})",
            severity,
        )

    def rules(self, definition: dict[str, Any], node: Node, path: str, resource: Node) -> None:
        """The invariants of an element."""
        for rule in definition.get("constraint", ()):
            expression, key = rule.get("expression"), str(rule.get("key"))
            if type(expression) is not str or rule.get("source", "").startswith(CORE):
                continue
            try:
                run = fhirpath.compile(expression)
                budget = min(self.steps, RULE_STEPS)
                self.steps -= 20
                good = fhirpath.boolean(run(node, resource, self.root, budget)) is True
            except FhirPathError as error:
                self.tell(
                    "not-supported",
                    path,
                    f"规则 {key} 无法判断",
                    f"the rule {key} cannot be decided: {str(error)[:200]}",
                    "warning",
                )
                self.steps -= RULE_STEPS if "too many steps" in str(error) else 0
                continue
            if not good:
                severity = "error" if rule.get("severity") == "error" else "warning"
                human = str(rule.get("human", ""))[:500]
                self.tell("invariant", path, f"{key}：{_chinese(rule) or human}", f"{key}: {human}", severity)

    # -- members and slices ---------------------------------------------------------------------------------------------

    def members(self, part: Part, parent: Node, path: str, resource: Node) -> None:
        """The values of one child element: how many, each of them, and how they fall into slices."""
        places = list(located(parent, part.name))
        where = f"{path}.{part.name}"
        if places or part.definition:
            self.count(part.definition, len(places), where)
        for node, place in places:
            self.value(part, node, f"{path}.{place}", resource)
        if part.slices:
            self.slices(part, places, path, where, resource)

    def count(self, definition: dict[str, Any], number: int, where: str, slice_name: str = "") -> None:
        """Cardinality of an element or slice."""
        least, most = definition.get("min", 0), str(definition.get("max", "*"))
        what = f"（{slice_name}）" if slice_name else ""
        named = f" (slice {slice_name})" if slice_name else ""
        if type(least) is int and number < least:
            self.tell("required", where, f"至少需要 {least} 个{what}", f"at least {least} needed{named}")
        if most.isdigit() and number > int(most):
            self.tell("structure", where, f"最多 {most} 个{what}", f"at most {most} allowed{named}")

    def slices(
        self, part: Part, places: list[tuple[Node, str]], path: str, where: str, resource: Node
    ) -> None:
        """Give every value to the first slice it matches, and hold it against that."""
        slicing = part.definition.get("slicing") or _implied(part)
        discriminators = slicing.get("discriminator", ())
        counts = dict.fromkeys(part.slices, 0)
        for node, place in places:
            spot = f"{path}.{place}"
            found = next(
                (n for n, one in part.slices.items() if self.matches(one, node, discriminators, spot)), None
            )
            if found is not None:
                counts[found] += 1
                self.value(part.slices[found], node, spot, resource)
                if part.slices[found].slices:
                    self.slices(part.slices[found], [(node, place)], path, where, resource)
            elif slicing.get("rules") == "closed":
                self.tell(
                    "structure",
                    spot,
                    "不属于任何允许的切片",
                    "matches none of the slices, and no others are allowed",
                )
        for name, one in part.slices.items():
            self.count(one.definition, counts[name], where, name)

    def matches(self, part: Part, node: Node, discriminators: Any, spot: str) -> bool:
        """Whether a value belongs to a slice, by all its discriminators."""
        return all(self.discriminated(part, node, one, spot) for one in discriminators)

    def discriminated(self, part: Part, node: Node, discriminator: dict[str, Any], spot: str) -> bool:
        kind, path = discriminator.get("type"), str(discriminator.get("path", "$this"))
        try:
            values = (
                [node] if path == "$this" else fhirpath.compile(path)(node, self.root, self.root, RULE_STEPS)
            )
        except FhirPathError:
            return False
        told = list(_along(part, path))
        if kind == "exists":
            wanted = next((p.definition for p in told if p.definition), {})
            return not values if str(wanted.get("max")) == "0" else bool(values) or not wanted.get("min")
        if kind == "type":
            kinds = {_code(k) for p in told for k in p.definition.get("type", ())}
            return any(v.t in kinds for v in values)
        if kind == "profile":
            urls = [u for p in told for k in p.definition.get("type", ()) for u in k.get("profile", ())]
            return any(
                not any(i.severity == "error" for i in self.aside(lambda u=u, v=v: self.against(u, v, spot)))  # type: ignore[misc]
                for v in values
                for u in urls
            )
        return any(self.says(told, value, path) for value in values)

    def says(self, told: list[Part], value: Node, path: str) -> bool:
        """Whether the fixed value, pattern or required binding a slice gives for its discriminator fits a value."""
        decided = False
        for part in told:
            urls = [u for k in part.definition.get("type", ()) for u in k.get("profile", ())]
            binding = part.definition.get("binding") or {}
            if part.fixed is not None:
                good = same(part.fixed[0], value.v)
            elif part.pattern is not None:
                good = contains(value.v, part.pattern[0])
            elif path == "url" and urls:
                good = any(value.v == url.split("|")[0] for url in urls)
            elif binding.get("strength") == "required" and "valueSet" in binding:
                good = bindings.within(binding["valueSet"], value.v) is True
            elif part.below and type(value.v) is dict:
                good = self.below_says(part, value)
            else:
                continue
            if not good:
                return False
            decided = True
        return decided

    def below_says(self, part: Part, value: Node) -> bool:
        """A discriminator on an object whose fixed values stand further down (``coding.system`` under ``$this``)."""
        context = Context(value, self.root, self.root, RULE_STEPS)
        decided = False
        for child in part.below.values():
            if child.fixed is None and child.pattern is None and not child.below:
                continue
            found = [node for node, _ in located(value, child.name)]
            context.spend(len(found) + 1)
            if not any(self.says([child], node, child.name) for node in found):
                return False
            decided = True
        return decided


STEP = re.compile(r"extension\('([^']*)'\)|([A-Za-z]\w*)(\([^()]*\))?|\$this")


def _along(part: Part, path: str) -> Iterator[Part]:
    """The parts of a slice at the end of a discriminator path (for extensions the slice itself: its profile has the url)."""
    found = [part]
    for step in STEP.finditer(path):
        url, name, call = step.groups()
        if url is not None:
            found = [one for p in found for one in _extension_slices(p, url)]
        elif name is not None and call is None:
            found = [child for one in found for child in _named(one, name)]
    yield from found
    if path == "url" and not found:
        yield part


def _extension_slices(part: Part, url: str) -> Iterator[Part]:
    holder = part.below.get("extension")
    for one in holder.slices.values() if holder else ():
        named = one.below.get("url")
        profiles = [u for k in one.definition.get("type", ()) for u in k.get("profile", ())]
        if url in profiles or (named is not None and named.fixed is not None and named.fixed[0] == url):
            yield one


def _named(part: Part, name: str) -> Iterator[Part]:
    child = part.below.get(name)
    if child is not None:
        yield child
        yield from child.slices.values()


def _implied(part: Part) -> dict[str, Any]:
    """Slicing that a differential may leave out: extensions by url, choices by type."""
    if part.name in ("extension", "modifierExtension"):
        return {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}
    return {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"}


def _code(kind: dict[str, Any]) -> str:
    return str(kind.get("code", ""))


def _fits(kind: dict[str, Any], node: Node) -> bool:
    """Whether a value is of one of an element's types (ids and urls have a type of FHIRPath's own)."""
    code = _code(kind)
    return code in (node.t, "Resource", "Element", "BackboneElement", "") or "." in node.t or ":" in code


def _chinese(rule: dict[str, Any]) -> str:
    """The Chinese wording of a rule, when its definition brings one (translation extension)."""
    for one in (rule.get("_human") or {}).get("extension", ()):
        parts = {p.get("url"): p.get("valueCode") or p.get("valueString") for p in one.get("extension", ())}
        if str(parts.get("lang", "")).startswith("zh"):
            return str(parts.get("content", ""))
    return ""


def located(parent: Node, name: str) -> Iterator[tuple[Node, str]]:
    """The values of a member with the place of each; ``valueQuantity`` is the choice ``value`` when it is one."""
    if type(parent.v) is not dict:
        return
    table = fields(parent.t)
    options = table.get(name) or tuple(o for keys in table.values() for o in keys if o[0] == name)
    for key, kind in options:
        found = at(parent.v, key, kind)
        many = type(parent.v.get(key, parent.v.get("_" + key))) is list
        for i, node in enumerate(found):
            yield node, f"{key}[{i}]" if many else key


def same(wanted: Any, value: Any) -> bool:
    """Whether a value is exactly a fixed one."""
    if type(wanted) in (int, float) and type(value) in (int, float):
        return bool(wanted == value)
    return type(wanted) is type(value) and bool(wanted == value)


def contains(value: Any, wanted: Any) -> bool:
    """Whether a value has everything a pattern has (arrays: in any order)."""
    if type(wanted) is dict:
        return type(value) is dict and all(k in value and contains(value[k], v) for k, v in wanted.items())
    if type(wanted) is list:
        return type(value) is list and all(any(contains(one, w) for one in value) for w in wanted)
    return same(wanted, value)


def short(value: Any) -> str:
    """A value for a message."""
    return str(value)[:200]


_cache: dict[str, tuple[dict[str, Any], Profile | None]] = {}


def compiled(resource: dict[str, Any]) -> Profile | None:
    """The compiled profile of a StructureDefinition (None: it cannot be one), kept as long as the same object is given."""
    url = str(resource.get("url"))
    held = _cache.get(url)
    if held is not None and held[0] is resource:
        return held[1]
    try:
        made = compile_profile(resource)
    except (ValueError, TypeError, AttributeError):
        made = None
    if len(_cache) > 500:
        _cache.clear()
    _cache[url] = (resource, made)
    return made
