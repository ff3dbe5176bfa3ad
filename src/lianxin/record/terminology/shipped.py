"""The code systems and value sets of FHIR R4 that ship with the platform (``data/terminology_r4.zip``, made by
``scripts/gen_terminology.py`` from the official package, CC0): found by url or id, unpacked block by block when asked for; and Chinese names of the commonest (``data/terminology_zh.json``).
"""

import zipfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import orjson

ARCHIVE = Path(__file__).parents[1] / "data" / "terminology_r4.zip"
CHINESE = ARCHIVE.with_name("terminology_zh.json")


@lru_cache(maxsize=8)
def _block(name: str) -> list[bytes]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(name).split(b"\n")


@cache
def _index() -> dict[tuple[str, str], tuple[str, str, int, int]]:
    """(type, url) -> (id, version, block, line)."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        rows = orjson.loads(archive.read("index.json"))
    return {(rtype, url): (rid, version, block, line) for rtype, rid, url, version, block, line in rows}


@cache
def urls(rtype: str) -> dict[str, str]:
    """url -> version of everything shipped of a type."""
    return {url: row[1] for (kind, url), row in _index().items() if kind == rtype}


def resource(rtype: str, url: str, version: str = "") -> dict[str, Any] | None:
    """The shipped resource with this url (and version, when one is asked for), or None; a fresh dict every time."""
    row = _index().get((rtype, url))
    if row is None or (version and version != row[1]):
        return None
    return orjson.loads(_block(f"{row[2]}.ndjson")[row[3]])


@cache
def chinese() -> dict[str, dict[str, str]]:
    """Our Chinese names of shipped codes that people meet daily: code system -> code -> name."""
    return orjson.loads(CHINESE.read_bytes())


@cache
def _ids() -> dict[tuple[str, str], str]:
    return {(rtype, row[0]): url for (rtype, url), row in _index().items()}


def by_id(rtype: str, rid: str) -> dict[str, Any] | None:
    """The shipped resource with this id, or None."""
    url = _ids().get((rtype, rid))
    return resource(rtype, url) if url else None


def every() -> list[tuple[str, str, bytes]]:
    """(type, id, exact text) of everything shipped, for the load into the record."""
    return [
        (rtype, rid, _block(f"{block}.ndjson")[line])
        for (rtype, _), (rid, _, block, line) in _index().items()
    ]
