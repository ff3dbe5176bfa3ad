"""HTTP of the FHIR door: reading requests within limits, writing responses. Knows nothing of patients."""

import gzip
import re
import zlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lianxin.access.scope import Scope
from lianxin.exchange import cors
from lianxin.record import text
from lianxin.record.problems import Issue, outcome, refuse
from lianxin.record.store import Result
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
ACCEPTED = frozenset({"*/*", "application/*", "text/*", *(JSON_TYPES - {""})})
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
    scope: Scope | None = None  # already known inside a Bundle

    @property
    def here(self) -> str:
        """The absolute address without its query."""
        return "/".join([self.base, *self.path])

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
    result: Result | None = None  # the version that was read or written


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
    return Incoming(
        environ["REQUEST_METHOD"],
        [p for p in path.split("/") if p],
        params,
        environ,
        base(environ),
    )


def base(environ: dict[str, Any]) -> str:
    """The door's address as the client knows it."""
    host = environ.get("HTTP_HOST", "")
    if not HOST.fullmatch(host):
        host = f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', '80')}"
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", environ.get("wsgi.url_scheme", "http"))
    return f"{scheme if scheme in ('http', 'https') else 'http'}://{host}/fhir"


def negotiate(request: Incoming) -> None:
    """406 unless the client takes JSON (``_format`` before ``Accept``)."""
    wanted = request.param("_format").split(";")[0].strip()
    if wanted in FORMATS if wanted else accepts(request.header("Accept")):
        return
    raise refuse(
        406,
        "not-supported",
        "本接口只提供 JSON（application/fhir+json，FHIR 4.0）",
        "this door speaks JSON only (application/fhir+json, FHIR 4.0)",
    )


def accepts(accept: str, wanted: frozenset[str] = ACCEPTED) -> bool:
    """Whether an Accept header takes one of ``wanted`` (ranges with q=0 or another FHIR version do not count)."""
    if not accept.strip():
        return True
    for part in accept.lower().split(","):
        kind, *options = [p.strip().replace(" ", "") for p in part.split(";")]
        if kind not in wanted or any(re.fullmatch(r"q=0(\.0*)?", o) for o in options):
            continue
        if all(o.startswith("fhirversion=4.0") for o in options if o.startswith("fhirversion=")):
            return True
    return False


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


def content_type(environ: dict[str, Any]) -> str:
    """The media type of the body, in small letters, without its options."""
    return str(environ.get("CONTENT_TYPE") or "").split(";")[0].strip().lower()


def check_type(environ: dict[str, Any], allowed: frozenset[str] = JSON_TYPES) -> None:
    """Refuse bodies that are not JSON in UTF-8 of FHIR 4.0 (415)."""
    given = str(environ.get("CONTENT_TYPE") or "")
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", given, re.I)
    version = re.search(r"fhirversion\s*=\s*\"?([\d.]+)", given, re.I)
    if (
        content_type(environ) not in allowed
        or (charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"))
        or (version and not version[1].startswith("4.0"))
    ):
        problem = refuse(
            415,
            "not-supported",
            "请用 Content-Type: application/fhir+json（UTF-8，FHIR 4.0）发送 JSON",
            "send JSON as Content-Type: application/fhir+json in UTF-8, FHIR 4.0",
        )
        problem.headers.append(
            ("Accept-Post" if allowed is JSON_TYPES else "Accept-Patch", ", ".join(sorted(allowed - {""})))
        )
        raise problem


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
    except OSError as error:  # the sender paused too long, has done so too often, or has gone
        wait = getattr(error, "seconds", None)
        if wait is not None:
            busy = refuse(
                503,
                "throttled",
                "近来多次发送中断，请稍后再发",
                "too many bodies were left unfinished; send again later",
            )
            busy.headers.append(("Retry-After", str(int(wait) + 1)))
            raise busy from None
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
    if body and request is not None and request.param("_pretty") == "true" and body[:1] in (b"{", b"["):
        body = msgspec.json.format(body, indent=2)
    headers = [*reply.headers, *cors.headers(environ)]
    named = {name for name, _ in headers}
    if "Cache-Control" not in named:
        headers.append(("Cache-Control", "no-store"))
    headers.append(("X-Content-Type-Options", "nosniff"))
    if body:
        if "Content-Type" not in named:
            headers.append(("Content-Type", CONTENT_TYPE))
        headers.append(("Vary", "Accept, Accept-Encoding"))
        if len(body) > GZIP_FROM and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "").lower():
            body = gzip.compress(body, 1)
            headers.append(("Content-Encoding", "gzip"))
    if reply.status not in (204, 304):
        headers.append(("Content-Length", str(len(body))))
    phrase = HTTPStatus(reply.status).phrase if reply.status in HTTPStatus._value2member_map_ else "Unknown"
    start_response(f"{reply.status} {phrase}", headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" or reply.status in (204, 304) else body]
