"""SMART scopes as written and as checked: ``system/*.rs``, ``user/Observation.cruds``, ``patient/Observation.rs?category=laboratory``.

Versions 1 and 2 of the grammar (SMART App Launch 2.2, "Scopes and Launch Context"). ``system`` scopes are a machine's own,
``user`` scopes whatever the signed-in person may do, ``patient`` scopes that of one patient's record. A query limit
(``?name=value&…``) narrows a scope to the resources that match it: every room that reads turns it into search conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from lianxin.access.errors import Invalid
from lianxin.standards.text import T

LEVELS = ("system", "user", "patient")
CONTEXT = frozenset(
    {
        "openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "offline_access",
        "online_access",
    }
)  # fmt: skip
"""Scopes that name no resources: identity, launch context, refresh tokens."""

MAX_LENGTH = 4000
_SCOPE = re.compile(
    r"(system|user|patient)/(\*|[A-Z][A-Za-z]{1,60})\.(\*|read|write|c?r?u?d?s?)(?:\?([\x21-\x7e]{1,500}))?"
)
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}


@dataclass(frozen=True)
class Permission:
    """One scope understood: whose resources (``level``), of which type ("*": all), which of c r u d s, and the query limit."""

    level: str
    rtype: str
    letters: str
    query: tuple[tuple[str, str], ...] = ()

    @property
    def limited(self) -> bool:
        """Whether it reaches less than every resource of its type."""
        return self.level == "patient" or bool(self.query)

    def covers(self, other: Permission) -> bool:
        """Whether everything ``other`` allows is allowed by this one too (levels compare as equal)."""
        return (
            self.level == other.level
            and self.rtype in ("*", other.rtype)
            and set(other.letters) <= set(self.letters)
            and set(self.query) <= set(other.query)
        )


@lru_cache(maxsize=4096)
def understood(part: str) -> tuple[str, Permission] | None:
    """A scope normalised to version 2 and its meaning, or None for a word that is no scope of resources."""
    match = _SCOPE.fullmatch(part)
    if not match or not match[3]:
        return None
    letters = _V1.get(match[3], match[3])
    pairs = tuple(parse_qsl(match[4], keep_blank_values=True)) if match[4] else ()
    if match[4] and (not pairs or match[2] == "*" or any(not n or not v for n, v in pairs)):
        return None
    text = f"{match[1]}/{match[2]}.{letters}" + (f"?{match[4]}" if match[4] else "")
    return text, Permission(match[1], match[2], letters, pairs)


def parse(text: str, levels: Iterable[str] = LEVELS, *, context: bool = False) -> tuple[str, ...]:
    """Normalise a scope string to ``("system/Patient.rs", …)``; raises :class:`Invalid` naming the bad part.

    ``context``: identity and launch scopes are taken too.
    """
    allowed = tuple(levels)
    out = []
    if len(text) > MAX_LENGTH:
        raise Invalid({"scope": T("授权范围过长，请精简。", "The scope is too long; shorten it.")})
    for part in text.split():
        if context and part in CONTEXT:
            out.append(part)
            continue
        found = understood(part)
        if found is None or found[1].level not in allowed:
            raise Invalid(
                {
                    "scope": T(
                        "授权范围“{part}”无法识别，应形如 {level}/*.rs 或 {level}/Patient.read。",
                        "The scope “{part}” is not understood; write it like {level}/*.rs or {level}/Patient.read.",
                    ).format(part=part[:100], level=allowed[0])
                }
            )
        out.append(found[0])
    if not out:
        raise Invalid({"scope": T("请给出授权范围，如 system/*.rs。", "Give a scope, such as system/*.rs.")})
    return tuple(dict.fromkeys(out))


def permissions(smart: tuple[str, ...]) -> list[Permission]:
    """The scopes of resources among ``smart``."""
    return [found[1] for part in smart if (found := understood(part))]


@lru_cache(maxsize=8192)
def matching(smart: tuple[str, ...], rtype: str, letters: str = "cruds") -> tuple[Permission, ...]:
    """The permissions on ``rtype`` that include any of ``letters``."""
    return tuple(
        p for p in permissions(smart) if p.rtype in ("*", rtype) and not set(letters).isdisjoint(p.letters)
    )


def narrowed(wanted: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """What of ``wanted`` lies within ``allowed``: each scope as asked where it fits, else the part of it that does.

    A wildcard type asked of a client that has single types becomes those types; letters that are not allowed fall away.
    """
    given = permissions(allowed)
    out: list[str] = []
    for part in wanted:
        if part in CONTEXT:
            if part in allowed:
                out.append(part)
            continue
        found = understood(part)
        if found is None:
            continue
        text, asked = found
        if any(g.covers(asked) for g in given):
            out.append(text)
            continue
        for g in given:
            if g.level != asked.level or (g.rtype != asked.rtype and "*" not in (g.rtype, asked.rtype)):
                continue
            letters = "".join(x for x in "cruds" if x in asked.letters and x in g.letters)
            rtype = asked.rtype if g.rtype == "*" else g.rtype
            query = (*g.query, *(pair for pair in asked.query if pair not in g.query))
            if not letters or (query and rtype == "*"):
                continue
            out.append(written(Permission(asked.level, rtype, letters, query)))
    return tuple(dict.fromkeys(out))


def written(permission: Permission) -> str:
    """A permission as a scope string of version 2."""
    text = f"{permission.level}/{permission.rtype}.{permission.letters}"
    query = urlencode(permission.query, quote_via=quote, safe="/:|,$*")
    return f"{text}?{query}" if query else text
