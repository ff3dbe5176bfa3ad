"""A slow search that is right by inspection: the official FHIRPath expressions over resources in memory (fhirpathpy).

Nothing here is shared with the engine but the folding of texts into pinyin and the conversion of units. Every rule is written
the way R4 (3.1.1, Search) states it; where R4 leaves a choice the comment says which one the house took.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zipfile
from calendar import monthrange
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Any

from fhirpathpy import compile as compile_fhirpath
from fhirpathpy.models import models

from lianxin.record import definitions, units
from lianxin.standards import clock, pinyin

R4 = models["r4"]
UCUM = "http://unitsofmeasure.org"
FIRST = datetime(1, 1, 2, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)
LITERAL = re.compile(
    r"(?:https?://[^?#]+/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
CONTACTS = ("telecom", "Telecom")
Resource = dict[str, Any]


@dataclass(frozen=True)
class Official:
    """A search parameter as it is published."""

    code: str
    kind: str
    paths: tuple[str, ...]
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...] = ()


def shipped(rtype: str) -> dict[str, Official]:
    """The parameters of a type as the product ships them."""
    return {
        p.code: Official(p.code, p.kind, p.paths, p.targets, p.components)
        for p in definitions.params(rtype).values()
    }


def published(path: Path) -> Callable[[str], dict[str, Official]]:
    """The parameters of a type straight from the official definitions."""
    with zipfile.ZipFile(path) as archive:
        found = [json.loads(archive.read(n)) for n in archive.namelist() if "SearchParameter-" in n]
    given = [
        p for p in found if p["resourceType"] == "SearchParameter" and p.get("base") and p.get("expression")
    ]
    by_url = {p["url"]: p["code"] for p in given}

    @cache
    def of_type(rtype: str) -> dict[str, Official]:
        table = {}
        for p in given:
            if rtype not in p["base"] and p["base"] not in (["Resource"], ["DomainResource"]):
                continue
            parts = [
                part if re.match(r"\(?[A-Z]", part) else f"{rtype}.{part}" for part in union(p["expression"])
            ]
            parts = [x for x in parts if re.match(rf"\(?({rtype}|Resource|DomainResource)\b", x)]
            targets = p.get("target", [])
            if (rtype, p["code"]) == (
                "Condition",
                "subject",
            ):  # published as Organization, which the element cannot hold
                targets = ["Patient", "Group"]
            if parts:
                table[p["code"]] = Official(
                    p["code"],
                    p["type"],
                    tuple(parts),
                    tuple(targets if len(targets) < 60 else ()),
                    tuple((by_url[c["definition"]], c["expression"]) for c in p.get("component", ())),
                )
        return table

    return of_type


def union(expression: str) -> list[str]:
    """Parts of ``a | b`` outside parentheses."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(expression):
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            parts.append(expression[start:i].strip())
            start = i + 1
    return [*parts, expression[start:].strip()]


@cache
def compiled(expression: str) -> Callable[[Resource], list[Any]]:
    """A FHIRPath expression as a function; ``as`` of several items is meant as ``ofType`` (R4's expressions are from before)."""
    expression = re.sub(r"\((\S+) as (\w+)\)", r"\1.ofType(\2)", expression).replace(".as(", ".ofType(")
    return compile_fhirpath(expression, R4)


def fold(text: str) -> str:
    """Case, accents and runs of blanks do not matter; only 200 characters are compared."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = unicodedata.normalize("NFC", plain)
    return " ".join(plain.casefold().split())[:200]


def split(text: str, mark: str) -> list[str]:
    """Split at a mark that no backslash precedes."""
    return re.split(rf"(?<!\\){re.escape(mark)}", text)


def plain(text: str) -> str:
    """Undo the backslashes before ``,|$`` and backslash."""
    return re.sub(r"\\([,|$\\])", r"\1", text)


def date_range(text: str) -> tuple[datetime, datetime]:
    """Half-open range of a partial date; without a zone it is Shanghai's."""
    match = re.fullmatch(
        r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?(Z|[+-]\d\d:\d\d)?", text
    )
    assert match, text
    year, month, day, hour, minute, second, part, zone = match.groups()
    tz = (
        clock.ZONE
        if zone is None
        else datetime.fromisoformat("2000-01-01T00:00:00" + zone.replace("Z", "+00:00")).tzinfo
    )
    if hour is not None:
        start = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=tz)
        if second is None:
            return start, start + timedelta(minutes=1)
        if part is None:
            return start, start + timedelta(seconds=1)
        digits = part[:6]
        start += timedelta(microseconds=int(digits.ljust(6, "0")))
        return start, start + timedelta(microseconds=10 ** (6 - len(digits)))
    if day is not None:
        start = datetime(int(year), int(month), int(day), tzinfo=clock.ZONE)
        return start, start + timedelta(days=1)
    if month is not None:
        start = datetime(int(year), int(month), 1, tzinfo=clock.ZONE)
        return start, start + timedelta(days=monthrange(int(year), int(month))[1])
    return datetime(int(year), 1, 1, tzinfo=clock.ZONE), datetime(int(year) + 1, 1, 1, tzinfo=clock.ZONE)


def reference_of(value: Any) -> str | None:
    """``Type/id`` of a literal reference, or the url or urn it is; None for a contained or logical one."""
    text = value if isinstance(value, str) else value.get("reference", "")
    if not text or text.startswith("#"):
        return None
    match = LITERAL.fullmatch(text)
    return f"{match[1]}/{match[2]}" if match and match[1] in definitions.types() else text


@dataclass
class Oracle:
    """All resources there are, and how the parameters are defined."""

    resources: list[Resource]
    table: Callable[[str], dict[str, Official]] = shipped
    _found: dict[tuple[str, str, str], list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_type: dict[str, list[Resource]] = {}
        for one in self.resources:
            self.by_type.setdefault(one["resourceType"], []).append(one)
        self.by_name = {f"{r['resourceType']}/{r['id']}": r for r in self.resources}
        self.pointing: dict[tuple[str, str], dict[str, set[str]]] = {}

    # ------------------------------------------------------------------------------------------------- evaluation

    def values(self, resource: Resource, param: Official) -> list[Any]:
        """What the expression finds in a resource."""
        key = (resource["resourceType"], resource["id"], param.code)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = [v for path in param.paths for v in self._evaluate(resource, path)]
        return found

    def _evaluate(self, resource: Resource, path: str) -> list[Any]:
        """One path; ``resolve() is T`` is read off the reference."""
        only = re.search(r"\.where\(resolve\(\) is (\w+)\)", path)
        text = re.sub(r"\.where\(resolve\(\) is \w+\)", "", path)
        found = list(compiled(text)(resource))
        if text.endswith(".entry[0].resource"):
            found = [{"reference": f"{r['resourceType']}/{r.get('id')}"} for r in found]
        if "extension(" in text and "hasExtension" not in text:
            found = [v for e in found for k, v in e.items() if k.startswith("value")]
        if only:
            found = [v for v in found if (reference_of(v) or "").startswith(only[1] + "/")]
        return found

    # ----------------------------------------------------------------------------------------------------- search

    def search(self, rtype: str, pairs: Iterable[tuple[str, str]]) -> set[str]:
        """Ids of the resources of a type that satisfy every pair."""
        found = self.by_type.get(rtype, [])
        for name, value in pairs:
            fits = self.fits(rtype, name, value)
            found = [r for r in found if fits(r)]
        return {r["id"] for r in found}

    def fits(self, rtype: str, name: str, value: str) -> Callable[[Resource], bool]:
        """The condition of one ``name=value``."""
        if name.startswith("_has:"):
            return self._has(rtype, name, value)
        head, dot, rest = name.partition(".")
        code, _, modifier = head.partition(":")
        if dot:
            return self._chain(rtype, code, modifier, rest, value)
        given = [v for v in split(value, ",") if v]
        if code in ("_id", "_lastUpdated") and modifier == "missing":
            return lambda r: value == "false"
        if code == "_id":
            return lambda r: (r["id"] in map(plain, given)) != (modifier == "not")
        if code == "_lastUpdated":
            return lambda r: any(_in_time(date_range(r["meta"]["lastUpdated"]), v) for v in given)
        if code == "_list":
            return lambda r: any(
                reference_of(e["item"]) == f"{r['resourceType']}/{r['id']}"
                for v in given
                for e in self.by_name.get(f"List/{v}", {}).get("entry", ())
            )
        param = self.table(rtype)[code]
        if modifier == "missing":
            return lambda r: self._absent(r, param) == (value == "true")
        if modifier in ("not", "not-in"):
            inner = {"not": "", "not-in": "in"}[modifier]
            return lambda r: not any(self._fits(r, param, inner, v) for v in given)
        return lambda r: any(self._fits(r, param, modifier, v) for v in given)

    def _absent(self, resource: Resource, param: Official) -> bool:
        if (resource["resourceType"], param.code) == (
            "Patient",
            "deceased",
        ):  # absent when nothing is written
            return not any(k.startswith("deceased") for k in resource)
        return not [
            v
            for v in self.values(resource, param)
            if param.kind != "reference" or reference_of(v) or "identifier" in v
        ]

    def _fits(self, resource: Resource, param: Official, modifier: str, value: str) -> bool:
        if param.kind == "composite":
            return self._composite(resource, param, value)
        contact = any(word in path for path in param.paths for word in CONTACTS)
        found = self.values(resource, param)
        return any(self._one(param, contact, modifier, v, value, resource["resourceType"]) for v in found)

    def _one(self, param: Official, contact: bool, modifier: str, found: Any, value: str, rtype: str) -> bool:
        match param.kind:
            case "token":
                return _token(found, contact, modifier, value)
            case "string":
                return any(_string(t, modifier, plain(value), param.code) for t in texts(found))
            case "date":
                return any(_in_time(r, value) for r in times(found))
            case "number" | "quantity":
                return _quantity(found, value)
            case "uri":
                return _uri(found, modifier, plain(value))
            case "reference":
                return self._reference(found, param, modifier, plain(value), rtype)
            case _:
                return _near(found, value)

    def _reference(self, found: Any, param: Official, modifier: str, value: str, rtype: str) -> bool:
        if modifier == "identifier":
            system, bar, number = value.partition("|")
            own = found.get("identifier", {}) if isinstance(found, dict) else {}
            return (
                bool(own.get("value"))
                and own["value"] == (number if bar else system)
                and (not bar or own.get("system", "") == system)
            )
        target = reference_of(found)
        if target is None:
            return False
        if modifier in ("below", "above"):
            return target in self._kin(modifier, value)
        match = LITERAL.fullmatch(value)
        if match and match[1] in definitions.types():
            wanted = f"{match[1]}/{match[2]}"
            return target == wanted and (not modifier or modifier == match[1])
        if "/" in value or ":" in value:
            return target in (value, value.partition("|")[0]) or target.partition("|")[0] == value
        kind, _, rid = target.partition("/")
        return rid == value and (not modifier or kind == modifier) and kind in definitions.types()

    def _kin(self, modifier: str, value: str) -> set[str]:
        """The resource and all below (or above) it by its ``partOf``."""
        kin = {value}
        while True:
            more = set(kin)
            for one in self.resources:
                name, parent = f"{one['resourceType']}/{one['id']}", one.get("partOf")
                for p in parent if isinstance(parent, list) else [parent] if parent else []:
                    if modifier == "below" and reference_of(p) in kin:
                        more.add(name)
                    if modifier == "above" and name in kin and reference_of(p):
                        more.add(str(reference_of(p)))
            if more == kin:
                return kin
            kin = more

    # ------------------------------------------------------------------------------------------------------ links

    def _allowed(self, param: Official) -> set[str]:
        only = {m[1] for path in param.paths if (m := re.search(r"resolve\(\) is (\w+)", path))}
        return only or set(param.targets) or set(definitions.types())

    def _chain(
        self, rtype: str, code: str, modifier: str, rest: str, value: str
    ) -> Callable[[Resource], bool]:
        param = self.table(rtype)[code]
        kinds = {modifier} if modifier else self._allowed(param)
        wanted: set[str] = set()
        for kind in kinds:
            try:
                wanted |= {f"{kind}/{rid}" for rid in self.search(kind, [(rest, value)])}
            except KeyError:
                continue
        return lambda r: any(reference_of(v) in wanted for v in self.values(r, param))

    def _has(self, rtype: str, name: str, value: str) -> Callable[[Resource], bool]:
        _, kind, code, rest = name.split(":", 3)
        param = self.table(kind)[code]
        good = self.search(kind, [(rest, value)])
        pointed = {
            reference_of(v)
            for r in self.by_type.get(kind, [])
            if r["id"] in good
            for v in self.values(r, param)
        }
        return lambda r: f"{r['resourceType']}/{r['id']}" in pointed

    # -------------------------------------------------------------------------------------------------- composite

    def _items(self, resource: Resource, param: Official) -> list[list[list[Any]]]:
        """Per item: what each component finds."""
        items = []
        for base in param.paths:
            if base == resource["resourceType"]:
                stems = [base]
            else:
                stems = [f"{base}[{i}]" for i in range(len(compiled(base)(resource)))]
            items += [
                [self._component(resource, stem, e) for _, e in self._parts(resource, param)]
                for stem in stems
            ]
        return items

    def _parts(self, resource: Resource, param: Official) -> list[tuple[str, str]]:
        parts = list(param.components)
        if (resource["resourceType"], param.code) == ("DocumentReference", "relationship"):
            (a, first), (b, second) = parts  # the two expressions are published the wrong way round
            parts = [(a, second), (b, first)]
        return parts

    def _component(self, resource: Resource, stem: str, expression: str) -> list[Any]:
        found = []
        for part in expression.replace("DateTime", "dateTime").split("|"):
            part = part.strip()
            if part.startswith("%resource."):
                text = f"{resource['resourceType']}.{part.removeprefix('%resource.')}"
            else:
                text = f"{stem}.{part}"
            found += compiled(text)(resource)
        return found

    def _composite(self, resource: Resource, param: Official, value: str) -> bool:
        pieces = split(value, "$")
        table = self.table(resource["resourceType"])
        for item in self._items(resource, param):
            if all(
                any(self._one(table[code], False, "", v, piece, resource["resourceType"]) for v in found)
                for (code, _), found, piece in zip(self._parts(resource, param), item, pieces, strict=True)
            ):
                return True
        return False

    # ------------------------------------------------------------------------------------------------------- order

    def sort_value(self, resource: Resource, code: str, down: bool) -> Any:
        """What ``_sort=code`` sorts by; None comes last."""
        if code == "_id":
            return resource["id"]
        if code == "_lastUpdated":
            return date_range(resource["meta"]["lastUpdated"])[0]
        param = self.table(resource["resourceType"])[code]
        found: list[Any] = []
        for v in self.values(resource, param):
            match param.kind:
                case "date":
                    found += [low for low, _ in times(v)]
                case "string":
                    found += [fold(t) for t in texts(v)]
                case "number" | "quantity":
                    found += [amount(v)[0]] if amount(v) else []
                case "reference":
                    name = reference_of(v)
                    found += [name] if name in self.by_name else []  # what is not here has no name to sort by
                case "token":
                    found += sort_texts(v)
        return (max(found) if down else min(found)) if found else None


# ---------------------------------------------------------------------------------------------------------- by type


def tokens(found: Any, contact: bool) -> list[tuple[str | None, str]]:
    """(system, code) of a value; system None: the element itself says what it is (code, boolean, string, telecom)."""
    if isinstance(found, bool):
        return [(None, "true" if found else "false")]
    if isinstance(found, str):
        return [(None, found)]
    if "coding" in found or ("code" not in found and "value" not in found and "text" in found):
        return [(c.get("system", ""), c.get("code", "")) for c in found.get("coding", ())]
    if contact:
        return [(None, found["value"])] if found.get("value") else []
    return [(found.get("system", ""), found.get("value") or found.get("code") or "")]


def _token(found: Any, contact: bool, modifier: str, value: str) -> bool:
    if modifier == "text":
        return any(fold(t).startswith(fold(plain(value))) for t in token_texts(found))
    parts = [plain(p) for p in split(value, "|")]
    if modifier == "of-type":
        kinds = found.get("type", {}).get("coding", ()) if isinstance(found, dict) else ()
        return found.get("value") == parts[2] and any(
            c.get("system", "") == parts[0] and c.get("code") == parts[1] for c in kinds
        )
    own = tokens(found, contact)
    if len(parts) == 1:
        return any(code == parts[0] for _, code in own)
    system, code = parts
    if not code:
        return any(s is None or s == system for s, _ in own)
    return any(c == code and (s is None or s == system) for s, c in own)


def token_texts(found: Any) -> list[str]:
    """Texts of a concept, a coding or an identifier's type."""
    if not isinstance(found, dict):
        return []
    texts_ = [c["display"] for c in found.get("coding", ()) if "display" in c]
    texts_ += [found[k] for k in ("text", "display") if k in found]
    return texts_ + ([found["type"]["text"]] if "text" in found.get("type", {}) else [])


def sort_texts(found: Any) -> list[str]:
    """Tokens are sorted by their code where it is a plain code, else by their folded text."""
    if isinstance(found, bool):
        return ["true" if found else "false"]
    return [found] if isinstance(found, str) else [fold(t) for t in token_texts(found)]


def texts(found: Any) -> list[str]:
    """Texts of a string, a name or an address."""
    if isinstance(found, str):
        return [found]
    if "family" in found or "given" in found or "prefix" in found:
        parts = [
            found.get("text"),
            found.get("family"),
            *found.get("given", ()),
            *found.get("prefix", ()),
            *found.get("suffix", ()),
        ]
        if not found.get("text") and re.search(r"[\u3400-\u9fff]", found.get("family", "")):
            parts.append(found["family"] + "".join(found.get("given", ())))  # a Chinese name is said as one
    else:
        parts = [found.get(k) for k in ("text", "city", "district", "state", "country", "postalCode")] + list(
            found.get("line", ())
        )
    return [p for p in parts if p]


def _string(text: str, modifier: str, value: str, code: str) -> bool:
    if modifier == "exact":
        return text == value
    spoken = [fold(text)]
    if re.search(r"[\u3400-\u9fff]", text) and len(text) <= 60:
        spoken += [pinyin.full(text), pinyin.initials(text)]
    if modifier == "contains":
        return any(fold(value) in s for s in spoken)
    wanted = [fold(value)]
    if code == "phonetic" and re.search(r"[\u3400-\u9fff]", value):
        wanted += [r for r in (pinyin.full(value), pinyin.initials(value)) if len(r) > 1]
    return any(s.startswith(w) for s in spoken for w in wanted)


def times(found: Any) -> list[tuple[datetime, datetime]]:
    """Ranges of a date, a Period (open where nothing is written) or a Timing (its outer limits)."""
    if isinstance(found, str):
        return [date_range(found)]
    if "start" in found or "end" in found:
        return [
            (
                date_range(found["start"])[0] if "start" in found else FIRST,
                date_range(found["end"])[1] if "end" in found else LAST,
            )
        ]
    ranges = [date_range(e) for e in found.get("event", ())]
    ranges += (
        times(found.get("repeat", {}).get("boundsPeriod", {}))
        if found.get("repeat", {}).get("boundsPeriod")
        else []
    )
    return [(min(r[0] for r in ranges), max(r[1] for r in ranges))] if ranges else []


def _in_time(found: tuple[datetime, datetime], value: str) -> bool:
    prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    (low, high), (start, end) = found, date_range(text)
    inside = start <= low and high <= end
    gap = abs(clock.now() - start) / 10
    return {"eq": inside, "ne": not inside, "gt": high > end, "lt": low < start, "ge": high > end or inside, "le": low < start or inside,
            "sa": low >= end, "eb": high <= start, "ap": low < end + gap and high > start - gap}[prefix]  # fmt: skip


def amount(found: Any) -> tuple[Decimal, Decimal] | None:
    """Range of a number or quantity; a comparator opens it."""
    inf = Decimal("Infinity")
    if not isinstance(found, dict):
        return Decimal(str(found)), Decimal(str(found))
    if "low" in found or "high" in found:
        return (
            Decimal(str(found["low"]["value"])) if "low" in found else -inf,
            Decimal(str(found["high"]["value"])) if "high" in found else inf,
        )
    if "value" not in found:
        return None
    value = Decimal(str(found["value"]))
    comparator = found.get("comparator", "")
    return (-inf if "<" in comparator else value, inf if ">" in comparator else value)


def _quantity(found: Any, value: str) -> bool:
    bounds = amount(found)
    if bounds is None:
        return False
    parts = [plain(p) for p in split(value, "|")]
    prefix, text = (parts[0][:2], parts[0][2:]) if parts[0][:2].isalpha() else ("eq", parts[0])
    unit = found if isinstance(found, dict) else {}
    unit = unit.get("low") or unit.get("high") or unit
    if len(parts) == 3:
        system = unit.get("system") or ("urn:iso:std:iso:4217" if "currency" in unit else "")
        code = unit.get("code") or unit.get("currency") or ""
        if parts[1] and parts[1] != system:
            return False
        if parts[2] and parts[1] == UCUM and code != parts[2]:
            converted = [b if not b.is_finite() else units.convert(b, code, parts[2]) for b in bounds]
            if converted[0] is None or converted[1] is None:
                return False
            bounds = converted[0], converted[1]
        elif parts[2] and parts[2] not in ((code,) if parts[1] else (code, unit.get("unit"))):
            return False
    low, high = bounds
    exact = Decimal(text)
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - 1)
    inside = exact - half <= low and high < exact + half
    tenth = abs(exact) / 10
    return {"eq": inside, "ne": not inside, "gt": high > exact, "lt": low < exact, "ge": high >= exact, "le": low <= exact, "sa": low > exact,
            "eb": high < exact, "ap": low <= exact + tenth and high >= exact - tenth}[prefix]  # fmt: skip


def _uri(found: str, modifier: str, value: str) -> bool:
    bare = re.split(r"[|#]", found)[0]
    if modifier == "below":
        return (bare.rstrip("/") + "/").startswith(value.rstrip("/") + "/")
    if modifier == "above":
        return found == value or (
            "://" in bare and (value.rstrip("/") + "/").startswith(bare.rstrip("/") + "/")
        )
    return value in (found, bare)


def _near(found: Any, value: str) -> bool:
    parts = split(value, "|")
    distance = float(parts[2]) if len(parts) > 2 and parts[2] else 50.0
    distance *= {"km": 1.0, "m": 0.001, "": 1.0}[parts[3] if len(parts) > 3 else ""]
    a, b, c, d = (radians(float(x)) for x in (found["latitude"], parts[0], found["longitude"], parts[1]))
    return (
        2 * 6371.0088 * asin(sqrt(sin((a - b) / 2) ** 2 + cos(a) * cos(b) * sin((c - d) / 2) ** 2))
        <= distance
    )
