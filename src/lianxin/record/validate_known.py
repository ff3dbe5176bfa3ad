"""Which profiles are known: our own guide, and StructureDefinitions that a site has stored.

Stored ones are looked up at most every ``PATIENCE`` seconds and process on the way of a write, so that a resource that names
profiles nobody here knows (every American example does) costs nothing.
"""

import time
from typing import Any

import orjson

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.record import profiles

PATIENCE = 2.0
MOST_KEPT = 2000

_kept: dict[str, tuple[float, str, dict[str, Any] | None]] = {}


def find(url: str) -> dict[str, Any] | None:
    """The StructureDefinition of a canonical url (``|version`` may follow), or None; may lag two seconds behind a change."""
    held = _kept.get(url)
    if held is not None and time.monotonic() - held[0] < PATIENCE:
        return held[2]
    return find_now(url)


def find_now(url: str) -> dict[str, Any] | None:
    """The same, as it is stored at this moment."""
    own = profiles.by_url().get(url.split("|")[0])
    if own is not None:
        version = url.partition("|")[2]
        return (
            own if own["resourceType"] == "StructureDefinition" and version in ("", own["version"]) else None
        )
    body = _stored(url)
    held = _kept.get(url)
    if held is not None and held[1] == body:
        found = held[2]  # the same object, so that what was compiled from it stays good
    else:
        found = orjson.loads(body) if body else None
    if len(_kept) >= MOST_KEPT:
        _kept.clear()
    _kept[url] = (time.monotonic(), body, found)
    return found


def _stored(url: str) -> str:
    """The text of the newest stored StructureDefinition with this url and version ("": none)."""
    from lianxin.record import search

    bare, _, version = url.partition("|")
    if not bare or len(url) > 1000:
        return ""
    asked = [("url", _escaped(bare)), ("_sort", "-_lastUpdated"), ("_count", "1")]
    if version:
        asked.insert(1, ("version", _escaped(version)))
    scope = Scope.system("profiles of the validator")
    page = connections.reading(lambda cur: search.search(cur, scope, "StructureDefinition", asked))
    return page.entries[0].body if page.entries else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$")
