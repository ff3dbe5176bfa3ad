"""Where definitions come from, in this order: what ships with the platform, the platform's own tables
(:mod:`lianxin.standards`), and resources written through the door.

What ships cannot be redefined by a client: a stored resource with the same url counts only under another version, or when the
shipped one does not list its codes.  Everything read from the database lives in a :class:`Snapshot`, thrown away as soon as a
code system, value set or concept map has changed: operations look at every call, the hot paths once a second.
"""

import re
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.record.terminology import concepts, grammars, shipped
from lianxin.record.terminology.concepts import Concept, System
from lianxin.standards import clock, codes, loader
from lianxin.standards import models as tables

TYPES = ("CodeSystem", "ValueSet", "ConceptMap")
OWN_SETS = codes.BASE.replace("/cs/", "/vs/")
ORIGIN, SHIPPED = codes.BASE + "origin", "shipped"  # the tag of what ships with the platform
# kinds of answers kept in a snapshot -> kinds of definitions they rest on
RESTS_ON = {
    "CodeSystem": {"CodeSystem"},
    "ValueSet": {"ValueSet"},
    "ConceptMap": {"ConceptMap"},
    "system": {"CodeSystem", "own"},
    "implicit": {"CodeSystem"},
    "own": {"own"},
    "maps": {"ConceptMap"},
    "compiled": {"CodeSystem", "ValueSet", "own"},
}
PATIENCE = 1.0  # seconds that the hot paths trust a snapshot
MOST = 5000  # answers kept; beyond that all are forgotten
VERSIONS = 50  # of one canonical url that are looked at
MAPS = 200  # concept maps between two systems


def split(canonical: str) -> tuple[str, str]:
    """``url|version`` as (url, version)."""
    url, _, version = canonical.partition("|")
    return url, version


class Snapshot:
    """What the database held at one moment, read as far as it was asked for; never changed by a later write."""

    def __init__(self, marker: dict[str, Any], before: "Snapshot | None" = None) -> None:
        self.marker = marker
        self.kept: dict[Any, Any] = {}
        if before is not None:  # what rests only on definitions that have not changed is still true
            same = {kind for kind, value in marker.items() if before.marker[kind] == value}
            self.kept = {k: v for k, v in before.kept.copy().items() if RESTS_ON[k[0]] <= same}

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value under ``key``, made at the first question."""
        try:
            return self.kept[key]
        except KeyError:
            if len(self.kept) > MOST:
                self.kept.clear()
            made = self.kept[key] = make()
            return made

    def resource(self, rtype: str, url: str, version: str = "") -> dict[str, Any] | None:
        """A stored resource by its canonical url: this version, or the newest."""
        return self.keep((rtype, url, version), lambda: _newest(_stored(rtype, url), version))

    def system(self, url: str, version: str = "") -> System | None:
        """A code system of the platform's tables or the store."""
        return self.keep(("system", url, version), lambda: self._system(url, version))

    def _system(self, url: str, version: str) -> System | None:
        ours = own(url)
        if ours is not None and version in ("", ours.version):
            return ours
        found = self.resource("CodeSystem", url, version)
        return concepts.from_resource(found) if found else None


_held: Snapshot | None = None
_checked = 0.0
_guard = threading.Lock()


def snapshot(patience: float = 0.0) -> Snapshot:
    """The present snapshot; a check less than ``patience`` seconds old is good enough."""
    global _held, _checked
    held = _held
    if held is not None and patience and time.monotonic() - _checked < patience:
        return held
    marker = _marker()
    with _guard:
        if _held is None or _held.marker != marker:
            _held = Snapshot(marker, _held)
        _checked = time.monotonic()
        return _held


# The newest row of each type: a change or a deletion makes another one the newest (index record_resource_updated).
_NEWEST = (
    "SELECT k.rtype, r.id, r.version, r.updated FROM unnest(%s::text[]) AS k(rtype) LEFT JOIN LATERAL (SELECT id, version, updated"
    " FROM record_resource WHERE rtype = k.rtype ORDER BY updated DESC, rid DESC LIMIT 1) r ON true"
    " UNION ALL SELECT 'own', NULL, count(*), max(imported_at) FROM standards_codesystem"
)


def _marker() -> dict[str, Any]:
    """For each kind of definition something that differs after every change."""
    with connection.cursor() as cur:
        cur.execute(_NEWEST, [list(TYPES)])
        marker: dict[str, Any] = {kind: rest for kind, *rest in cur.fetchall()}
    return {**marker, "own": (*marker["own"], clock.today())}


def _plain(cur: Any) -> Any:
    from lianxin.record import rows

    return rows.server_cursor(cur)


def _stored(rtype: str, url: str) -> list[dict[str, Any]]:
    """Every stored resource with this canonical url, the last changed first."""
    from lianxin.record import search

    if not url or len(url) > 1000:
        return []
    with connection.cursor() as cur:
        page = search.search(
            _plain(cur),
            Scope.system("terminology"),
            rtype,
            [("url", _escaped(url)), ("_sort", "-_lastUpdated"), ("_count", str(VERSIONS))],
        )
    return [orjson.loads(entry.body) for entry in page.entries]


def _escaped(value: str) -> str:
    return re.sub(r"([\\,|$])", r"\\\1", value)


def by_id(rtype: str, rid: str) -> dict[str, Any] | None:
    """A resource by id, for operations on an instance: a stored one, or one that ships."""
    from lianxin.record import store

    with connection.cursor() as cur:
        found = store.read(_plain(cur), Scope.system("terminology"), rtype, rid)
    if found is None or found.deleted:
        return shipped.by_id(rtype, rid)
    return orjson.loads(found.body)


def _newest(found: list[dict[str, Any]], version: str) -> dict[str, Any] | None:
    """The resource of this version; without one, the active one with the highest version."""
    if version:
        return next((r for r in found if r.get("version") == version), None)
    found = sorted(
        found, key=lambda r: (r.get("status") == "active", _order(str(r.get("version") or ""))), reverse=True
    )
    return found[0] if found else None


def _order(version: str) -> list[tuple[int, int, str]]:
    """Versions in their natural order: 1.10 after 1.9."""
    parts = re.findall(r"\d{1,18}|[^\d.]+", version[:200])
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts]


def own(url: str) -> System | None:
    """A code system of :mod:`lianxin.standards` as it is in force today."""
    if url == loader.DIVISION_URL:
        return _divisions()
    held = codes.system_on(url)
    if held is None:
        return None
    today = clock.today()
    system = System(
        url=url,
        version=held.version,
        name=held.name,
        title=held.title,
        # a list made for demonstrations says nothing about the codes it lacks
        content="fragment" if held.version.startswith("demo") else "complete",
        language="zh",
        value_set=OWN_SETS + held.name,
    )
    for row in held.concepts.order_by("position", "code"):
        over = bool((row.since and row.since > today) or (row.until and row.until <= today))
        concept = Concept(row.code, row.display, inactive=over)
        if row.display_en:
            concept.designations.append(("en", None, row.display_en))
        if row.parent:
            concept.parents.append(row.parent)
        for name, value in row.props.items():
            kind = "valueBoolean" if isinstance(value, bool) else "valueString"
            concepts.take(concept, name, kind, value if isinstance(value, bool) else str(value))
        system.concepts[row.code] = concept
    return system.finish()


def _divisions() -> System:
    system = System(
        url=loader.DIVISION_URL,
        name="division",
        title="行政区划",
        language="zh",
        value_set=OWN_SETS + "division",
    )
    for code, name, parent in tables.Division.objects.order_by("code").values_list("code", "name", "parent"):
        system.concepts[code] = Concept(code, name, parents=[parent] if parent else [])
    return system.finish()


def own_systems() -> list[str]:
    """Urls of the platform's own code systems."""
    return sorted({*tables.CodeSystem.objects.values_list("url", flat=True), loader.DIVISION_URL})


@lru_cache(maxsize=256)
def _shipped_system(url: str) -> System | None:
    found = shipped.resource("CodeSystem", url)
    if found is None:
        return None
    system = concepts.from_resource(found)
    for code, name in shipped.chinese().get(url, {}).items():
        system.concepts[code].designations.append(("zh", None, name))
    return system


@lru_cache(maxsize=64)
def _listed(url: str) -> System | None:
    rows = grammars.listed(url)
    if rows is None:
        return None
    return System(url=url, title=grammars.NAMES[url], concepts={code: Concept(code, code) for code in rows})


class Finder:
    """Finds definitions for one question; ``looked`` says whether the database was asked (then the answer may change)."""

    def __init__(self, held: Callable[[], Snapshot]) -> None:
        self._held = held
        self._seen: Snapshot | None = None
        self.looked = False
        self.extra: dict[tuple[str, str], dict[str, Any]] = {}  # resources given with the question itself

    @property
    def stored(self) -> Snapshot:
        """The snapshot, from now on part of the answer."""
        self.looked = True
        if self._seen is None:
            self._seen = self._held()
        return self._seen

    def system(self, url: str, version: str = "") -> System | None:
        """A code system with its concepts; None when it is not held."""
        if given := self.extra.get(("CodeSystem", url)):
            return concepts.from_resource(given)
        known = shipped.urls("CodeSystem").get(url)
        if known is not None and (not version or version == known):
            found = _shipped_system(url)
            if found is not None and found.complete:
                return found
            return self.stored.system(url, version) or found
        if grammars.test(url) is not None:
            return _listed(url)
        return self.stored.system(url, version)

    def resource(self, rtype: str, canonical: str) -> dict[str, Any] | None:
        """A value set or concept map by ``url``, ``url|version`` or ``Type/id``; None when it is not held."""
        if canonical.startswith(f"{rtype}/"):
            rid = canonical.removeprefix(f"{rtype}/")
            return self.stored.keep((rtype, canonical), lambda: by_id(rtype, rid))
        url, version = split(canonical)
        if given := self.extra.get((rtype, url)):
            return given
        return shipped.resource(rtype, url, version) or self.stored.resource(rtype, url, version)

    def implicit(self, canonical: str) -> dict[str, Any] | None:
        """The value set of all codes of a code system, when a code system names this url as such (``CodeSystem.valueSet``)."""
        url, _ = split(canonical)
        name = url.removeprefix(OWN_SETS)
        if name != url and name:
            stored = self.stored
            for system in (codes.BASE + name, *stored.keep(("own",), own_systems)):
                found = stored.system(system)
                if found is not None and found.value_set == url:
                    return _all_of(url, system, found.title)
        system = self.stored.keep(("implicit",), _implicit).get(url)
        return _all_of(url, system, "") if system else None

    def maps(self) -> list[dict[str, Any]]:
        """Every concept map held, the last changed first."""
        return [
            *self.stored.keep(("maps",), _maps),
            *(m for url in shipped.urls("ConceptMap") if (m := shipped.resource("ConceptMap", url))),
        ]


def _all_of(url: str, system: str, title: str) -> dict[str, Any]:
    return {
        "resourceType": "ValueSet",
        "url": url,
        "status": "active",
        **({"title": title} if title else {}),
        "compose": {"include": [{"system": system}]},
    }


def _every(rtype: str, most: int, which: list[tuple[str, str]]) -> list[dict[str, Any]]:
    from lianxin.record import search

    found: list[dict[str, Any]] = []
    given = [*which, ("_sort", "-_lastUpdated"), ("_count", str(min(most, 200)))]
    with connection.cursor() as cur:
        cursor: str | None = None
        while len(found) < most:
            more = [("_cursor", cursor)] if cursor else []
            page = search.search(_plain(cur), Scope.system("terminology"), rtype, [*given, *more])
            found += [orjson.loads(entry.body) for entry in page.entries]
            cursor = page.next
            if not cursor:
                break
    return found


def _maps() -> list[dict[str, Any]]:
    return _every("ConceptMap", MAPS, [])


def _implicit() -> dict[str, str]:
    """``CodeSystem.valueSet`` -> url of the stored code systems."""
    rows = _every("CodeSystem", 5000, [("_tag:not", f"{ORIGIN}|{SHIPPED}")])
    return {str(r["valueSet"]): str(r["url"]) for r in reversed(rows) if r.get("valueSet") and r.get("url")}
