"""How results look on the wire: headers of a version, narrowed resources, Bundles and their entries."""

from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from functools import cache
from urllib.parse import quote, urlencode

from lianxin.exchange.fhir.http import Incoming
from lianxin.record import definitions, text
from lianxin.record.patch_path import elements
from lianxin.record.problems import refuse
from lianxin.record.store import Result, stamp

SUMMARIES = ("", "true", "text", "data", "count", "false")


def etag(version: int) -> str:
    """The weak ETag of a version."""
    return f'W/"{version}"'


def http_date(result: Result) -> str:
    """Last-Modified of a result."""
    return format_datetime(result.updated.astimezone(UTC).replace(microsecond=0), usegmt=True)


def not_changed(request: Incoming, result: Result) -> bool:
    """Whether If-None-Match or (without it) If-Modified-Since lets the door answer 304."""
    tags = request.header("If-None-Match")
    if tags:
        mine = etag(result.version).removeprefix("W/")
        return tags.strip() == "*" or mine in [t.strip().removeprefix("W/") for t in tags.split(",")]
    since = request.header("If-Modified-Since")
    if since:
        try:
            return result.updated.replace(microsecond=0) <= parsedate_to_datetime(since)
        except (ValueError, TypeError):
            return False
    return False


def resource_headers(request: Incoming, result: Result, location: bool = False) -> list[tuple[str, str]]:
    """ETag, Last-Modified, and Location and Content-Location of what was written."""
    headers = [("ETag", etag(result.version)), ("Last-Modified", http_date(result))]
    if location:
        where = f"{request.base}/{result.rtype}/{result.id}/_history/{result.version}"
        headers += [("Location", where), ("Content-Location", where)]
    return headers


@cache
def _stems(rtype: str) -> dict[str, str]:
    """JSON member -> element (``valueQuantity`` -> ``value``) of a type."""
    return {key: row[0] for key, row in elements(rtype).items()}


def narrows(request: Incoming) -> bool:
    """Whether ``_elements`` or ``_summary`` asks for parts of resources only; 400 for an unknown ``_summary``."""
    summary = request.param("_summary")
    if summary not in SUMMARIES:
        raise refuse(
            400,
            "invalid",
            "_summary 应为 true、text、data、count 或 false",
            "_summary must be true, text, data, count or false",
            "_summary",
        )
    return bool(request.param("_elements").strip(", ")) or summary in ("true", "text", "data")


def shown(request: Incoming, rtype: str, body: str) -> str:
    """A resource's text narrowed by ``_elements`` or ``_summary`` (exact text of what remains, tagged SUBSETTED)."""
    if not narrows(request):
        return body
    summary, wanted = request.param("_summary"), set()
    for name in (e.strip() for e in request.param("_elements").split(",")):
        kind, _, element = name.rpartition(".")
        if element and (not kind or kind.partition(".")[0] == rtype):
            wanted.add(kind.partition(".")[2].partition(".")[0] or element if kind else element)
    top, stems = text.members(body.encode()), _stems(rtype)
    keep: set[str] = {"resourceType", "id", "meta"}
    if request.param("_elements").strip(", "):
        keep |= wanted | {name.removesuffix("[x]") for name in definitions.mandatory(rtype)}
    elif summary == "true":
        keep |= definitions.summary(rtype)
    elif summary == "text":
        keep |= {"text"} | {name.removesuffix("[x]") for name in definitions.mandatory(rtype)}
    else:
        keep |= set(top) - {"text"}
    parts = {}
    for key, value in top.items():
        name = key.removeprefix("_")
        if key in keep or name in keep or stems.get(name) in keep:
            parts[key] = bytes(value).decode()
    parts["meta"] = subsetted(parts.get("meta", "{}"))
    return "{" + ",".join(f'"{key}":{exact}' for key, exact in parts.items()) + "}"


def subsetted(meta: str) -> str:
    """``meta`` with the tag SUBSETTED added."""
    tag = '{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}'
    top = text.members(meta.encode())
    tags = bytes(top.pop("tag")).decode().strip() if "tag" in top else "[]"
    inner = tags[1:-1].strip()
    parts = [f'"{k}":{bytes(v).decode()}' for k, v in top.items()]
    return "{" + ",".join([*parts, f'"tag":[{inner + "," if inner else ""}{tag}]']) + "}"


def link(relation: str, url: str) -> str:
    """One Bundle.link."""
    return text.dumps({"relation": relation, "url": url}).decode()


def bundle_text(kind: str, entries: list[str], links: list[str], total: int | None = None) -> str:
    """A Bundle around ready entry texts."""
    parts = [f'"resourceType":"Bundle","type":"{kind}"']
    if total is not None:
        parts.append(f'"total":{total}')
    if links:
        parts.append(f'"link":[{",".join(links)}]')
    if entries:
        parts.append(f'"entry":[{",".join(entries)}]')
    return "{" + ",".join(parts) + "}"


def entry_text(base: str, result: Result, body: str, mode: str) -> str:
    """A searchset entry."""
    return f'{{"fullUrl":"{base}/{result.rtype}/{result.id}","resource":{body},"search":{{"mode":"{mode}"}}}}'


def history_entry(base: str, result: Result, body: str) -> str:
    """A history entry: the version (``body``), or the mark of a deletion."""
    method = "DELETE" if result.deleted else "POST" if result.version == 1 else "PUT"
    status = "204" if result.deleted else "201" if result.version == 1 else "200"
    url = result.rtype if method == "POST" else f"{result.rtype}/{result.id}"
    resource = "" if result.deleted else f'"resource":{body},'
    return (
        f'{{"fullUrl":"{base}/{result.rtype}/{result.id}",{resource}"request":{{"method":"{method}","url":"{url}"}},'
        f'"response":{{"status":"{status}","etag":"W/\\"{result.version}\\"","lastModified":"{stamp(result.updated)}"}}}}'
    )


def query(params: list[tuple[str, str]]) -> str:
    """A query string that reads well (slashes, colons and bars stay)."""
    return urlencode(params, quote_via=quote, safe="/:|,$*")
