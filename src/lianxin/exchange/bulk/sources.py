"""Where an import's lines come from, put into one stored file: an upload, a Binary, or an address the administrator allows.

The platform fetches from nowhere else: an address must begin with one of ``LIANXIN_BULK_SOURCES`` (scheme, host, port and whole
path segments compared), redirects included, so nobody can make it knock on doors inside the network.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from django.conf import settings
from django.db import connection

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.bulk import files
from lianxin.exchange.bulk.models import BulkJob, BulkLane, BulkUpload
from lianxin.exchange.fhir.http import MAX_RESOURCE
from lianxin.record import rows, store
from lianxin.record.problems import Problem, refuse
from lianxin.standards import clock

READ = 1 << 18
TIMEOUT = 30.0
REDIRECTS = 3
_UPLOAD = re.compile(r"/bulk/uploads/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_BINARY = re.compile(r"(?:/fhir/)?(Binary/[A-Za-z0-9\-.]{1,64})")
_PORTS = {"http": 80, "https": 443}


def check(scope: Scope, base: str, url: str, place: str) -> None:
    """Refuse, at the kick-off, a source that cannot be used; raises 400, 403 or 404 with the place."""
    inner = url.removeprefix(base) if base else url
    if found := _UPLOAD.fullmatch(inner):
        _upload(scope.client_id, found[1], place)
    elif not _BINARY.fullmatch(inner) and not allowed(url):
        raise refuse(
            403,
            "forbidden",
            "只能从本平台的上传、Binary 或管理员允许的地址导入",
            "imports come from uploads here, from a Binary, or from an address the administrator allows",
            place,
        )


def allowed(url: str) -> bool:
    """Whether an address begins with one of those the administrator allows."""
    given = _split(url)
    if given is None:
        return False
    for one in settings.LIANXIN_BULK_SOURCES:
        base = _split(one)
        if (
            base is not None
            and (given.scheme, given.hostname, _port(given)) == (base.scheme, base.hostname, _port(base))
            and f"{given.path}/".startswith(f"{base.path.rstrip('/')}/")
        ):
            return True
    return False


def _split(url: str) -> SplitResult | None:
    """The parts of a plain http(s) address; None for anything that could be read in two ways."""
    if re.search(r"[\x00-\x20\x7f\\@#]", url) or len(url) > 4000:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    path = parts.path.lower()
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        return None
    if "/.." in path or "/./" in path or "%2e" in path or "%2f" in path:
        return None
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _upload(client_id: int | None, name: str, place: str) -> BulkUpload:
    found = BulkUpload.objects.filter(pk=name, expires_at__gt=clock.now()).first()
    if found is None or client_id is None or found.client_id != client_id:
        raise refuse(
            404, "not-found", "没有该上传文件或已过期，请重新上传", "there is no such upload, or it has expired; send it again", place
        )  # fmt: skip
    return found


def obtain(job: BulkJob, lane: BulkLane, scope: Scope, beat: Callable[[], None]) -> files.Written:
    """The lane's lines as a file of the job; raises :class:`Problem` when the source cannot be had."""
    stored = f"{lane.number}-input.lease{lane.lease}"
    inner = lane.name.removeprefix(job.base)
    if found := _UPLOAD.fullmatch(inner):
        upload = _upload(job.client_id, found[1], lane.name)
        files.folder(job.pk).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.link(files.path_of("uploads", upload.stored), files.path_of(job.pk, stored))
        return files.Written(stored, upload.count, upload.size, 0)
    if found := _BINARY.fullmatch(inner):
        return keep(job.pk, stored, _binary(scope, found[1]), beat)
    return keep(job.pk, stored, _fetched(lane.name), beat)


def _binary(scope: Scope, reference: str) -> list[bytes]:
    with connection.cursor() as own:
        found = store.read(rows.server_cursor(own), scope, "Binary", reference.partition("/")[2])
    if found is None or found.deleted:
        raise refuse(
            404, "not-found", f"没有可查看的 {reference}", f"there is no {reference} that you may see"
        )
    audit.write(scope, "read", what=reference)
    try:
        return [base64.b64decode(json.loads(found.body).get("data", ""), validate=True)]
    except ValueError:
        raise refuse(
            422, "value", f"{reference} 的内容不是 base64", f"{reference} does not hold base64"
        ) from None


def _unreachable(url: str, why: str) -> Problem:
    return refuse(
        422, "not-found", f"无法取得 {url}（{why}），请检查地址后重新提交", f"{url} cannot be fetched ({why}); check it and start again"
    )  # fmt: skip


def _piece(url: str, answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(READ)
    except (OSError, http.client.HTTPException) as broken:
        raise _unreachable(url, type(broken).__name__) from None


def _fetched(url: str) -> Iterator[bytes]:
    """The bytes of an allowed address; every redirect must be allowed too."""
    for _ in range(REDIRECTS + 1):
        parts = _split(url)
        if parts is None or not allowed(url):
            raise refuse(
                403, "forbidden", f"地址 {url} 不在允许之列", f"the address {url} is not among those allowed"
            )
        kind: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(parts.hostname, _port(parts), timeout=TIMEOUT)) as wire:
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                wire.request(
                    "GET",
                    target,
                    headers={"Accept": "application/fhir+ndjson", "Accept-Encoding": "gzip, identity"},
                )
                answer = wire.getresponse()
            except (OSError, http.client.HTTPException) as broken:
                raise _unreachable(url, type(broken).__name__) from None
            if answer.status in (301, 302, 303, 307, 308):
                url = urljoin(url, answer.getheader("Location") or "")
                continue
            if answer.status != 200:
                raise _unreachable(url, f"HTTP {answer.status}")
            while piece := _piece(url, answer):
                yield piece
            if answer.length:  # what was promised and did not come
                raise _unreachable(url, "IncompleteRead")
            return
    raise _unreachable(url, "redirects")


def keep(
    owner: Any, stored: str, pieces: Iterable[bytes], beat: Callable[[], None] = lambda: None
) -> files.Written:
    """Put bytes (plain or gzip) into a stored file line by line; 413 beyond the limits, 400 for a damaged gzip."""
    writer = files.Writer(owner, stored)
    try:
        told = 0
        for line in _lines(_plain(pieces)):
            writer.write(line)
            if writer.plain_size - told > (8 << 20):
                told = writer.plain_size
                beat()
        return writer.close()
    except BaseException:
        writer.discard()
        raise


def _plain(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompressed when it begins like gzip; never more than the limit, a little at a time."""
    total, unpacker, first = 0, None, True
    for piece in pieces:
        if first and piece:
            first = False
            if piece[:2] == b"\x1f\x8b":
                unpacker = zlib.decompressobj(31)
            elif piece.startswith(b"\xef\xbb\xbf"):
                piece = piece[3:]
        while piece:
            if unpacker is None:
                out, piece = piece, b""
            else:
                if unpacker.eof:  # another member follows
                    unpacker = zlib.decompressobj(31)
                try:
                    out = unpacker.decompress(piece, 1 << 20)
                except zlib.error:
                    raise refuse(400, "structure", "gzip 内容已损坏", "the gzip content is damaged") from None
                piece = unpacker.unconsumed_tail or unpacker.unused_data
            total += len(out)
            if total > settings.LIANXIN_BULK_UPLOAD_BYTES:
                megabytes = settings.LIANXIN_BULK_UPLOAD_BYTES >> 20
                raise refuse(
                    413, "too-long", f"内容超过 {megabytes} MB，请分成几个文件", f"more than {megabytes} MB; send several files"
                )  # fmt: skip
            yield out
    if unpacker is not None and not unpacker.eof:
        raise refuse(400, "structure", "gzip 内容不完整", "the gzip content is cut off")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends; one longer than a resource may be is refused before it fills the memory."""
    rest: list[bytes] = []
    held = 0
    for piece in pieces:
        *whole, tail = piece.split(b"\n")
        for part in whole:
            if held + len(part) > MAX_RESOURCE:
                raise _long()
            yield b"".join([*rest, part]).rstrip(b"\r")
            rest, held = [], 0
        if tail:
            rest.append(tail)
            held += len(tail)
            if held > MAX_RESOURCE:
                raise _long()
    if rest:
        yield b"".join(rest).rstrip(b"\r")


def _long() -> Problem:
    return refuse(
        413,
        "too-long",
        f"有一行超过 {MAX_RESOURCE >> 20} MB；每行应为一个资源",
        f"a line is longer than {MAX_RESOURCE >> 20} MB; a line holds one resource",
    )
