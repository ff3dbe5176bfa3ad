"""What a mapping gives: resources, how each is to be stored, and what the sender is told."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lianxin.standards.text import Text

REPLACE, MERGE, ONCE = "replace", "merge", "once"


@dataclass(frozen=True)
class Context:
    """What a mapping must know beside the message: who sends, for whom, and when it came.

    ``institution``: the institution's code (for systems of its numbers; :func:`context_of` looks it up).  ``control``: what makes
    an id when the message gives no number at all (default: MSH-10).
    """

    institution_id: int
    institution: str = ""
    received: dt.datetime | None = None
    control: str = ""


@dataclass(frozen=True)
class Manner:
    """How a resource meets the one that is stored under its id.

    ``replace``: it takes its place.  ``merge``: what it does not say stays (:func:`merge`): members in ``union`` are lists that only
    grow, for members in ``weak`` the stored value wins, ``remove`` are paths that are taken away.  ``once``: it is stored only when
    there is none yet (a visit of which a report merely tells).
    """

    mode: str = REPLACE
    union: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass
class Mapped:
    """What became of a message: ``resources`` with their ids, ``manners`` one for each, ``warnings``, ``version`` as name@version.

    Parts of resources may be shared between messages: change top-level members only.
    """

    resources: list[dict[str, Any]] = field(default_factory=list)
    manners: list[Manner] = field(default_factory=list)
    warnings: list[Text] = field(default_factory=list)
    version: str = ""


def merge(old: dict[str, Any], new: dict[str, Any], manner: Manner) -> dict[str, Any]:
    """The resource to store when ``old`` is stored already and ``new`` came (which of the two is kept whole says ``manner``)."""
    if manner.mode == REPLACE:
        return new
    if manner.mode == ONCE:
        return old
    made = {k: v for k, v in old.items() if k not in ("meta", "text")}
    for path in manner.remove:
        _take_away(made, path.split("."))
    for key, value in new.items():
        if key in manner.weak and key in made:
            continue
        if key in manner.union and isinstance(made.get(key), list):
            held = set(map(repr, made[key]))
            made[key] = [*made[key], *(v for v in value if repr(v) not in held)]
        elif (
            isinstance(value, dict)
            and isinstance(made.get(key), dict)
            and key in ("period", "hospitalization")
        ):
            made[key] = {**made[key], **value}
        else:
            for other in _choices(key, made):
                del made[other]
            made[key] = value
    return made


def _choices(key: str, made: dict[str, Any]) -> list[str]:
    """Members of the same choice (value[x] and the like) under another type, and what says why there is no value."""
    for stem in ("value", "effective", "medication", "occurrence", "onset"):
        if key.startswith(stem) and key[len(stem) :][:1].isupper():
            taken = [k for k in made if k != key and k.startswith(stem) and k[len(stem) :][:1].isupper()]
            return [*taken, "dataAbsentReason"] if stem == "value" and "dataAbsentReason" in made else taken
    return []


def _take_away(body: dict[str, Any], path: list[str]) -> None:
    """Remove a member by its path; an object that is left empty goes too (on copies: what is stored may be shared)."""
    head, *rest = path
    if head not in body:
        return
    inner = body[head]
    if not rest or not isinstance(inner, dict):
        del body[head]
        return
    body[head] = dict(inner)
    _take_away(body[head], rest)
    if not body[head]:
        del body[head]


@lru_cache(maxsize=10_000)
def code_of(institution_id: int) -> str:
    """An institution's code, asked once."""
    from lianxin.network.models import Institution

    return str(Institution.objects.values_list("code", flat=True).get(pk=institution_id))


def context_of(institution_id: int, received: dt.datetime | None = None, control: str = "") -> Context:
    """A context with the institution's code."""
    return Context(institution_id, code_of(institution_id), received, control)
