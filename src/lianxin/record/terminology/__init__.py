"""Terminology: code systems, value sets and concept maps, as search, validation and the operations use them.

``expand`` · ``member`` · ``descendants`` · ``ancestors`` · ``lookup`` · ``subsumes`` · ``translate``.
Definitions are found by :mod:`.sources`; a value set is compiled once (:mod:`.compose`) and then answers from memory: sets that
rest only on what ships with the platform for good, others until a definition changes.
"""

from typing import Any

from lianxin.record.problems import Problem, refuse
from lianxin.record.terminology import grammars, mapping, patterns, shipped, sources
from lianxin.record.terminology.compose import Compiled, Compiler, Item
from lianxin.record.terminology.concepts import Concept, System
from lianxin.record.terminology.mapping import Match
from lianxin.record.terminology.sources import PATIENCE, Finder

ENOUGH = 20_000  # codes returned at once

_for_good: dict[str, Compiled] = {}  # value sets that need nothing from the database
_open_ended: set[str] = set()  # shipped ones that do


def _finder(patience: float) -> Finder:
    return Finder(lambda: sources.snapshot(patience))


def compiled(
    value_set: str | dict[str, Any],
    *,
    patience: float = 0.0,
    finder: Finder | None = None,
    versions: dict[str, str] | None = None,
    default_versions: dict[str, str] | None = None,
) -> Compiled:
    """A value set by url (``url|version`` too) or as a resource, ready to be asked.

    404 when it is not held, 422 when it is circular, too large or uses what is not supported.  ``patience``: seconds that an
    answer may lag behind a change of a definition.  ``finder`` has looked at the definitions already.  ``versions`` and ``default_versions`` (of a resource only): versions of code
    systems to use in any case, or where the value set names none.
    """
    finder = finder or _finder(patience)
    if isinstance(value_set, dict):
        return Compiler(finder, versions, default_versions).compile(value_set)
    found = _for_good.get(value_set)
    if found is not None:
        return found
    kept = _kept(value_set, finder.stored)
    if isinstance(kept, Problem):
        raise Problem(kept.status, *kept.issues)
    return kept


def _kept(url: str, held: sources.Snapshot) -> Compiled | Problem:
    return held.keep(("compiled", url), lambda: _made(url, held))


def _made(url: str, held: sources.Snapshot) -> Compiled | Problem:
    """Compile by url; a refusal is kept too."""
    finder = Finder(lambda: held)
    try:
        resource = finder.resource("ValueSet", url) or finder.implicit(url)
        if resource is None:
            return refuse(
                404, "not-found", f"没有值集 {url[:300]}", f"there is no value set {url[:300]}", "url"
            )
        made = Compiler(finder).compile(resource)
    except Problem as problem:
        return problem
    if not made.looked:
        _for_good[url] = made
    return made


def _closed(url: str) -> Compiled | None:
    """A shipped value set that needs nothing from the database, compiled without touching it."""
    if url in _open_ended:
        return None
    resource = shipped.resource("ValueSet", *sources.split(url))
    if resource is None:
        return None
    finder = Finder(_no_database)
    try:
        made = _for_good[url] = Compiler(finder).compile(resource)
    except (_NeedsDatabase, Problem):
        _open_ended.add(url)
        return None
    return made


class _NeedsDatabase(Exception):
    """A shipped value set rests on something that may be stored."""


def _no_database() -> sources.Snapshot:
    raise _NeedsDatabase


def member(value_set: str, system: str | None, code: str) -> bool | None:
    """Whether a code is in a value set (``system`` None, as for a bare ``code``: in any system of it).

    None: the value set is not held, or rests on a code system that is not held, so nobody here can say.  May lag a second
    behind a change of a stored definition.
    """
    found = _for_good.get(value_set)
    if found is None:
        found = _any(value_set)
        if found is None:
            return None
    return found.member(system, code)


def _any(value_set: str) -> Compiled | None:
    made = _closed(value_set)
    if made is not None:
        return made
    kept = _kept(value_set, sources.snapshot(PATIENCE))
    return kept if isinstance(kept, Compiled) else None


def rows_of(made: Compiled, *, filter: str = "", active_only: bool = False) -> list[Item]:
    """The items of a compiled set whose names hold every word of ``filter``; 422 when it cannot be enumerated."""
    if made.open:
        names = ", ".join(sorted({s for s, _ in made.open}))[:300]
        raise refuse(
            422,
            "too-costly" if all(grammars.test(s) for s, _ in made.open) else "not-supported",
            f"该值集无法列举：代码系统 {names} 未完整收录或无法逐一列出",
            f"this value set cannot be enumerated: the code system {names} is not held in full, or has no end",
            "ValueSet.compose",
        )
    wanted = patterns.words(filter)
    found: Any = made.items.values()
    if active_only:
        found = [i for i in found if not i.inactive]
    if wanted:
        found = [i for i in found if all(w in hay for hay in (i.haystack(),) for w in wanted)]
    return list(found)


def expand(
    value_set: str | dict[str, Any],
    *,
    filter: str = "",
    count: int | None = None,
    offset: int = 0,
    active_only: bool = False,
    language: str = "",
) -> list[tuple[str, str, str]]:
    """The codes of a value set (url or resource) as (system, code, display), in its order.

    ``filter``: words of the code or a name, pinyin and initials too; all must be found.  ``language`` picks the display.  404
    when there is no such value set; 422 when it cannot be enumerated, or has more than 20,000 codes and ``count`` is not given.
    """
    made = compiled(value_set)
    if not (filter or active_only or language or made.open):
        if made.rows is None:
            made.rows = [(i.system, i.code, i.display()) for i in made.items.values()]
        rows = made.rows
    else:
        rows = [
            (i.system, i.code, i.display(language))
            for i in rows_of(made, filter=filter, active_only=active_only)
        ]
    rows = rows[offset:] if offset else rows
    if count is not None:
        return rows[:count]
    if len(rows) > ENOUGH:
        raise too_many(len(rows))
    return list(rows)


def too_many(total: int) -> Problem:
    """The refusal of an expansion that nobody can use at once."""
    return refuse(
        422,
        "too-costly",
        f"展开后有 {total} 个代码，请用 filter 缩小，或用 count 和 offset 分页",
        f"the expansion has {total} codes; narrow it with filter, or page with count and offset",
    )


def system_of(url: str, version: str = "", *, patience: float = 0.0) -> System | None:
    """A code system that is held, or None."""
    return _finder(patience).system(url, version)


def descendants(system: str, code: str) -> set[str]:
    """A code and everything below it (only itself when the system or the code is not held); a second behind at most."""
    found = system_of(system, patience=PATIENCE)
    concept = found.find(code) if found else None
    return {code} if found is None or concept is None else set(found.descendants(concept.code))


def ancestors(system: str, code: str) -> set[str]:
    """A code and everything above it (only itself when the system or the code is not held); a second behind at most."""
    found = system_of(system, patience=PATIENCE)
    concept = found.find(code) if found else None
    return {code} if found is None or concept is None else set(found.ancestors(concept.code))


def lookup(system: str, code: str, version: str = "") -> Concept | None:
    """The concept of a code, or None."""
    found = system_of(system, version)
    concept = found.find(code) if found else None
    if concept is None and found is None:
        test = grammars.test(system)
        if test is not None and test(code):
            return Concept(code, grammars.display(system, code))
    return concept


def subsumes(system: str, a: str, b: str, version: str = "") -> str | None:
    """``equivalent``, ``subsumes``, ``subsumed-by`` or ``not-subsumed`` (R4 concept-subsumption-outcome); None: not known."""
    found = system_of(system, version)
    return found.relation(a, b) if found else None


def translate(
    system: str,
    code: str,
    *,
    map_url: str = "",
    given: dict[str, Any] | None = None,
    target_system: str = "",
    source: str = "",
    target: str = "",
    reverse: bool = False,
    dependencies: tuple[tuple[str, str], ...] = (),
) -> list[Match]:
    """Translations of a code by one concept map (``map_url``, or ``given`` itself), or by all that fit the systems or value sets
    named.

    404 when the map named is not held.
    """
    finder = _finder(0.0)
    if given is not None:
        maps = [given]
    elif map_url:
        found = finder.resource("ConceptMap", map_url)
        if found is None:
            raise refuse(
                404,
                "not-found",
                f"没有概念映射 {map_url[:300]}",
                f"there is no concept map {map_url[:300]}",
                "url",
            )
        maps = [found]
    else:
        maps = finder.maps()
    wanted = mapping.Wanted(system, code, target_system, source, target, reverse, dependencies)
    return mapping.translate(maps, wanted, lambda url: finder.resource("ConceptMap", url))


__all__ = ["Compiled", "Concept", "Item", "Match", "System", "ancestors", "compiled", "descendants", "expand", "lookup", "member",
           "rows_of", "subsumes", "system_of", "too_many", "translate"]  # fmt: skip
