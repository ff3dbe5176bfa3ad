"""HTTP of the FHIR door: reading requests within limits, writing responses. Knows nothing of patients."""

import gzip
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from lianxin.record import definitions, text
from lianxin.record.problems import Issue, outcome, refuse
from lianxin.record.store import Result, stamp
from lianxin.standards.text import Text

MAX_RESOURCE = 10 * 1024 * 1024
MAX_BUNDLE = 50 * 1024 * 1024
MAX_QUERY = 64 * 1024
GZIP_FROM = 1400
JSON_TYPES = frozenset(
    {"application/fhir+json", "application/json", "text/json", "application/json+fhir", ""}
)
FORMATS = frozenset(
    {"json", "application/json", "application/fhir+json", "application/fhir json", "text/json"}
)
HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,255}")
CONTENT_TYPE = "application/fhir+json; charset=utf-8"


@dataclass
class Incoming:
    """A request as the door sees it."""

    method: str
    path: list[str]
    params: list[tuple[str, str]]
    environ: dict[str, Any]
    base: str
    _body: bytes | None = None

    def header(self, name: str) -> str:
        """A header's value or ""."""
        return self.environ.get("HTTP_" + name.upper().replace("-", "_"), "")

    def param(self, name: str) -> str:
        """The last value of a parameter or ""."""
        return next((v for n, v in reversed(self.params) if n == name), "")

    @property
    def prefer(self) -> str:
        """The Prefer header without blanks."""
        return self.header("Prefer").replace(" ", "").lower()

    def body(self, limit: int = MAX_RESOURCE) -> bytes:
        """The request body, decompressed, at most ``limit`` bytes (413 beyond)."""
        if self._body is None:
            self._body = read_body(self.environ, limit)
        return self._body


@dataclass
class Reply:
    """A response before it is put on the wire; ``body`` is JSON text."""

    status: int
    body: str | bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


def incoming(environ: dict[str, Any]) -> Incoming:
    """Understand method, path and query; refuses formats the door does not speak."""
    path = environ.get("PATH_INFO", "/")
    if not path.isascii():
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    if path.startswith("/fhir"):
        path = path[5:]
    query = environ.get("QUERY_STRING", "")
    if len(query) > MAX_QUERY:
        raise refuse(
            414, "too-long", "查询串过长，请改用 POST _search", "the query is too long; use POST _search"
        )
    params = pairs(query)
    host = environ.get("HTTP_HOST", "")
    if not HOST.fullmatch(host):
        host = f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', '80')}"
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", environ.get("wsgi.url_scheme", "http"))
    scheme = scheme if scheme in ("http", "https") else "http"
    request = Incoming(
        environ["REQUEST_METHOD"],
        [p for p in path.split("/") if p],
        params,
        environ,
        f"{scheme}://{host}/fhir",
    )
    wanted = request.param("_format").split(";")[0].strip()
    accept = request.header("Accept")
    if (wanted and wanted not in FORMATS) or (
        not wanted
        and accept
        and "json" not in accept
        and "*/*" not in accept
        and "application/*" not in accept
    ):
        raise refuse(
            406,
            "not-supported",
            "本接口只提供 JSON（application/fhir+json）",
            "this door speaks JSON only (application/fhir+json)",
        )
    return request


def pairs(query: str) -> list[tuple[str, str]]:
    """Query parameters in order; 400 when they are not UTF-8 or hold U+0000."""
    try:
        found = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=500)
    except ValueError:
        raise refuse(
            400,
            "invalid",
            "查询串不是合法的 UTF-8 或参数过多",
            "the query is not valid UTF-8 or has too many parameters",
        ) from None
    if any("\x00" in n or "\x00" in v for n, v in found):
        raise refuse(400, "invalid", "查询串中不能有 U+0000", "the query must not contain U+0000")
    return found


def check_type(environ: dict[str, Any]) -> None:
    """Refuse bodies that are not JSON (415)."""
    kind = environ.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", environ.get("CONTENT_TYPE", ""), re.I)
    if kind not in JSON_TYPES or (charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii")):
        raise refuse(
            415,
            "not-supported",
            "请用 Content-Type: application/fhir+json（UTF-8）发送 JSON",
            "send JSON as Content-Type: application/fhir+json in UTF-8",
        )


def too_big(limit: int) -> Exception:
    """413 with the limit and the cure."""
    megabytes = limit // 1048576
    return refuse(
        413,
        "too-long",
        f"内容超过 {megabytes} MB，请分批发送",
        f"the body is larger than {megabytes} MB; send it in parts",
    )


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """Read and decompress a body, never more than the limit."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length and not length.isdigit():
        raise refuse(400, "invalid", "Content-Length 无效", "the Content-Length is not valid")
    if length and int(length) > limit:
        raise too_big(limit)
    source = environ["wsgi.input"]
    try:
        raw = source.read(int(length)) if length else source.read(limit + 1)
    except OSError:  # the sender paused too long, or has gone
        raise refuse(
            408,
            "timeout",
            "内容发送过慢，连接已关闭，请检查网络后重发",
            "the body came too slowly; check the network and send it again",
        ) from None
    if length and len(raw) < int(length):
        raise refuse(400, "structure", "内容未发送完整，请重发", "the body was cut off; send it again")
    if len(raw) > limit:
        raise too_big(limit)
    coding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if coding in ("", "identity"):
        return raw
    if coding != "gzip":
        raise refuse(415, "not-supported", "只支持 gzip 压缩", "only gzip is supported as Content-Encoding")
    unpacker = zlib.decompressobj(31)
    try:
        plain = unpacker.decompress(raw, limit + 1)
    except zlib.error:
        raise refuse(400, "structure", "gzip 内容已损坏", "the gzip body is damaged") from None
    if len(plain) > limit:
        raise too_big(limit)
    if not unpacker.eof:
        raise refuse(400, "structure", "gzip 内容不完整", "the gzip body is cut off")
    return plain


def etag(version: int) -> str:
    """The weak ETag of a version."""
    return f'W/"{version}"'


def http_date(result: Result) -> str:
    """Last-Modified of a result."""
    return format_datetime(result.updated.astimezone(UTC).replace(microsecond=0), usegmt=True)


def not_changed(request: Incoming, result: Result) -> bool:
    """Whether If-None-Match or If-Modified-Since lets the door answer 304."""
    tags = request.header("If-None-Match")
    if tags:
        return etag(result.version) in [t.strip() for t in tags.split(",")] or tags.strip() == "*"
    since = request.header("If-Modified-Since")
    if since:
        try:
            return result.updated.replace(microsecond=0) <= parsedate_to_datetime(since)
        except (ValueError, TypeError):
            return False
    return False


def resource_headers(request: Incoming, result: Result, location: bool = False) -> list[tuple[str, str]]:
    """ETag, Last-Modified, and Location of what was written."""
    headers = [("ETag", etag(result.version)), ("Last-Modified", http_date(result))]
    if location:
        headers.append(("Location", f"{request.base}/{result.rtype}/{result.id}/_history/{result.version}"))
    return headers


def shown(request: Incoming, rtype: str, body: str) -> str:
    """A resource's text narrowed by ``_elements`` or ``_summary`` (exact text of what remains, tagged SUBSETTED)."""
    summary = request.param("_summary")
    elements = {e.strip().rpartition(".")[2] for e in request.param("_elements").split(",") if e.strip()}
    if not elements and summary in ("", "false", "count"):
        return body
    keep: Iterable[str]
    if elements:
        keep = elements | {"resourceType", "id", "meta"} | definitions.mandatory(rtype)
    elif summary == "true":
        keep = definitions.summary(rtype)
    elif summary == "text":
        keep = {"resourceType", "id", "meta", "text"} | definitions.mandatory(rtype)
    else:
        keep = set(text.members(body.encode())) - {"text"}
    parts = []
    for key, value in text.members(body.encode()).items():
        if key not in keep and key.lstrip("_") not in keep:
            continue
        exact = bytes(value).decode()
        if key == "meta":
            exact = subsetted(exact)
        parts.append(f'"{key}":{exact}')
    return "{" + ",".join(parts) + "}"


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


def history_entry(base: str, result: Result) -> str:
    """A history entry: the version, or the mark of a deletion."""
    method = "DELETE" if result.deleted else "POST" if result.version == 1 else "PUT"
    status = "204" if result.deleted else "201" if result.version == 1 else "200"
    url = result.rtype if method == "POST" else f"{result.rtype}/{result.id}"
    resource = "" if result.deleted else f'"resource":{result.body},'
    return (
        f'{{"fullUrl":"{base}/{result.rtype}/{result.id}",{resource}"request":{{"method":"{method}","url":"{url}"}},'
        f'"response":{{"status":"{status}","etag":"W/\\"{result.version}\\"","lastModified":"{stamp(result.updated)}"}}}}'
    )


def query(params: list[tuple[str, str]]) -> str:
    """A query string that reads well (slashes, colons and bars stay)."""
    return urlencode(params, quote_via=quote, safe="/:|,$*")


def outcome_text(issues: list[Issue]) -> bytes:
    """An OperationOutcome as JSON."""
    return text.dumps(outcome(issues))


def information(zh: str, en: str) -> bytes:
    """An OperationOutcome that only tells."""
    return outcome_text([Issue("informational", Text(zh, en), "", "information")])


def finish(
    request: Incoming | None, reply: Reply, start_response: Any, environ: dict[str, Any]
) -> list[bytes]:
    """Put a reply on the wire: pretty, gzip, length, no-store."""
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    if body and request is not None and request.param("_pretty") == "true":
        body = msgspec.json.format(body, indent=2)
    headers = [*reply.headers, ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
    if body:
        headers.append(("Content-Type", CONTENT_TYPE))
        headers.append(("Vary", "Accept-Encoding"))
        if len(body) > GZIP_FROM and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            body = gzip.compress(body, 1)
            headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    phrase = HTTPStatus(reply.status).phrase if reply.status in HTTPStatus._value2member_map_ else "Unknown"
    start_response(f"{reply.status} {phrase}", headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" or reply.status in (204, 304) else body]
