"""DICOMweb at ``/dicomweb``, a WSGI application beside Django: STOW-RS, QIDO-RS, WADO-RS (PS3.18), streamed both ways.

Systems come with a bearer token (scopes ``ImagingStudy.r``, ``.s``, ``.c``), our own pages' viewer with the session of whoever is signed
in (same origin only). Both see the studies that ``studies.seen`` lets them see; anything else is 404.
"""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import orjson
from django.db import Error as DatabaseTrouble

from lianxin.access import audit
from lianxin.exchange.fhir import gate, http
from lianxin.record.problems import Problem, refuse
from lianxin.regional.archive import callers, deliver, frames, jsonmodel, multipart, query, storing, studies
from lianxin.regional.archive.callers import Caller
from lianxin.regional.archive.models import Instance, Study
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Damaged

log = logging.getLogger(__name__)

JSON = "application/dicom+json"
LIMIT = 1000
"""Rows of a search at most; with no limit asked for :data:`USUAL`."""
USUAL = 100
MOST_FRAMES = 5000
KINDS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
UID = re.compile(r"[0-9.]{1,64}")
NO_STORE = [("Cache-Control", "no-store, private"), ("X-Content-Type-Options", "nosniff")]

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, Iterable[bytes]]


class Request:
    """A request as this door sees it."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.method = environ["REQUEST_METHOD"]
        self.path = [p for p in environ.get("PATH_INFO", "").split("/")[2:] if p]
        text = environ.get("QUERY_STRING", "")
        if len(text) > http.MAX_QUERY:
            raise refuse(414, "too-long", "查询串过长", "the query is too long")
        self.params = parse_qsl(text, keep_blank_values=True)
        self.base = http.base(environ).removesuffix("/fhir") + "/dicomweb"
        self.accept = environ.get("HTTP_ACCEPT", "") or "*/*"

    def param(self, name: str) -> str:
        """The last value of a parameter, or ""."""
        return next((v for n, v in reversed(self.params) if n == name), "")

    def accepted(self) -> list[tuple[str, dict[str, str]]]:
        """Media types that the caller takes, as (type, parameters); ``accept`` in the query comes first."""
        text = self.param("accept") or self.accept
        parts = re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", text)
        return [multipart.parameters(part) for part in parts if part.strip()]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI entry of everything below /dicomweb."""
    origin = audit.origin.set(environ.get("REMOTE_ADDR", ""))
    try:
        gate.fresh()
        status, headers, body = _answer(environ)
    except Problem as problem:
        status, headers, body = _refused(problem)
    except (Full, DatabaseTrouble) as error:
        log.error("DICOMweb cannot answer now: %s", error)
        status, headers, body = _refused(
            refuse(503, "transient", "影像归档暂时不可用，请稍后重试", "the image archive is not available; try again later")
        )  # fmt: skip
        headers.append(("Retry-After", "10"))
    except Exception:  # whatever it is, the caller gets an answer without its inside
        log.exception("DICOMweb failed")
        status, headers, body = _refused(refuse(500, "exception", "服务器内部错误", "internal error"))
    finally:
        audit.origin.reset(origin)
    start_response(f"{status} {http.HTTPStatus(status).phrase}", [*headers, *NO_STORE])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def _refused(problem: Problem) -> tuple[int, Headers, list[bytes]]:
    first = problem.issues[0]
    body = orjson.dumps({"status": problem.status, "zh": first.text.zh, "en": first.text.en})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Warning", f'299 - "{_ascii(first.text.en)}"'),
    ]
    if problem.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return problem.status, [*headers, *problem.headers], [body]


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace('"', "'").replace("\n", " ")[:200]


def _answer(environ: dict[str, Any]) -> Answer:
    request = Request(environ)
    caller = callers.who(environ, request.method)
    path = request.path
    if request.method == "POST":
        if path[:1] != ["studies"] or len(path) > 2:
            raise _nothing()
        return storing.stow(request, caller, _uid(path[1]) if len(path) == 2 else "")
    if request.method not in ("GET", "HEAD"):
        raise refuse(405, "not-supported", "不支持该方法", "this method is not supported")
    if path in (["studies"], ["series"], ["instances"]):
        return _search(request, caller, {"studies": "study", "series": "series", "instances": "instance"}[path[0]], {})  # fmt: skip
    if path[:1] != ["studies"]:
        raise _nothing()
    uids = {"StudyInstanceUID": _uid(path[1])}
    rest = path[2:]
    if rest[:1] == ["series"] and len(rest) >= 2:
        uids["SeriesInstanceUID"] = _uid(rest[1])
        rest = rest[2:]
        if rest[:1] == ["instances"] and len(rest) >= 2:
            uids["SOPInstanceUID"] = _uid(rest[1])
            rest = rest[2:]
    if rest == ["series"] and len(uids) == 1:
        return _search(request, caller, "series", uids)
    if rest == ["instances"] and len(uids) < 3:
        return _search(request, caller, "instance", uids)
    return _retrieve(request, caller, uids, rest)


def _uid(text: str) -> str:
    if not UID.fullmatch(text):
        raise _nothing()
    return text


def _nothing() -> Problem:
    return refuse(404, "not-found", "没有可查看的影像", "there are no images here that you may see")


# --- QIDO ---------------------------------------------------------------------------------------------------------------------------


def _search(request: Request, caller: Caller, level: str, uids: dict[str, str]) -> Answer:
    callers.demand(caller, "s")
    keys: dict[str, str] = dict(uids)
    limit, offset = _count(request, "limit", USUAL, LIMIT), _count(request, "offset", 0, 10_000_000)
    warnings: list[str] = []
    for name, value in request.params:
        if name in ("limit", "offset", "includefield", "accept"):
            continue
        if name == "fuzzymatching":
            if value == "true":
                warnings.append('299 - "fuzzy matching is not supported: only literal matching was done"')
            continue
        known = query.keyword(name)
        if known is None:
            warnings.append(f'299 - "{_ascii(name)[:60]} is not matched by"')
            continue
        if known in uids and value not in ("", uids[known]):
            return _json([], [])
        keys[known] = value
    within = None
    if "StudyInstanceUID" in uids:
        study = _study(caller, uids["StudyInstanceUID"])
        within = Study.objects.unscoped("it was reached within the scope").filter(pk=study.pk)
        keys.pop("StudyInstanceUID")
    try:
        rows = query.search(caller.scope, level, keys, limit=limit + 1, offset=offset, within=within)
    except query.Unusable as error:
        raise refuse(400, "invalid", "查询条件无法理解", f"cannot be matched: {error}") from error
    if len(rows) > limit:
        rows = rows[:limit]
        warnings.append('299 - "there are more results: ask with offset"')
    callers.searched(caller, f"QIDO {level}", len(rows))
    wanted = {found for name, value in request.params if name == "includefield" for one in value.split(",") if (found := query.keyword(one))}  # fmt: skip
    everything = request.param("includefield") == "all"
    return _json([_row(request, level, row, wanted, everything) for row in rows], warnings)


_LEVEL = {
    "study": ("StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy", "ReferringPhysicianName", "PatientName",
              "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDescription", "NumberOfStudyRelatedSeries",
              "NumberOfStudyRelatedInstances"),
    "series": ("Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances", "BodyPartExamined",
               "SeriesDate", "SeriesTime", "StudyInstanceUID", "InstanceAvailability"),
    "instance": ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
                 "AvailableTransferSyntaxUID", "StudyInstanceUID", "SeriesInstanceUID", "InstanceAvailability"),
}  # fmt: skip


def _row(request: Request, level: str, row: query.Row, wanted: set[str], everything: bool) -> dict[str, Any]:
    names = [n for n in row if everything or n in _LEVEL[level] or n in wanted or (level != "study" and n == "Modality")]  # fmt: skip
    made = {query.VRS[name][0]: query.json_value(name, row[name]) for name in names}
    where = f"{request.base}/studies/{row['StudyInstanceUID']}"
    if level != "study":
        where += f"/series/{row['SeriesInstanceUID']}"
    if level == "instance":
        where += f"/instances/{row['SOPInstanceUID']}"
    made["00081190"] = {"vr": "UR", "Value": [where]}
    return dict(sorted(made.items()))


def _count(request: Request, name: str, default: int, most: int) -> int:
    text = request.param(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise refuse(400, "invalid", f"{name} 应为非负整数", f"{name} must be a whole number, 0 or more")
    return min(int(text[:9]), most)


def _json(rows: list[Any], warnings: list[str]) -> Answer:
    body = orjson.dumps(rows)
    headers = [
        ("Content-Type", JSON),
        ("Content-Length", str(len(body))),
        *(("Warning", one) for one in warnings[:10]),
    ]
    return 200, headers, [body]


# --- WADO ---------------------------------------------------------------------------------------------------------------------------


def _study(caller: Caller, uid: str) -> Study:
    """The study, if the caller may look at it; who reconciles at the institution it came to sees it in quarantine too."""
    study = studies.find(caller.scope, uid)
    if study is None and caller.session and caller.scope.may("reconcile_images"):
        study = (
            Study.objects.unscoped("whoever reconciles looks at what waits at their institution")
            .filter(study_uid=uid, state="quarantined", institution_id__in=caller.scope.institution_ids)
            .select_related("institution", "person")
            .order_by("pk")
            .first()
        )
    if study is None:
        raise _nothing()
    return study


def _retrieve(request: Request, caller: Caller, uids: dict[str, str], rest: list[str]) -> Answer:
    callers.demand(caller, "r")
    study = _study(caller, uids["StudyInstanceUID"])
    rows = studies.instances(study)
    if "SeriesInstanceUID" in uids:
        rows = rows.filter(series__uid=uids["SeriesInstanceUID"])
    if "SOPInstanceUID" in uids:
        rows = rows.filter(sop_uid=uids["SOPInstanceUID"])
    instances = list(rows)
    if not instances:
        raise _nothing()
    for one in instances:
        one.study = study
    callers.looked(caller, study)
    if not rest:
        return _files(request, instances)
    if rest == ["metadata"]:
        return _metadata(request, instances)
    if rest in (["rendered"], ["thumbnail"]):
        return _picture(request, instances[(len(instances) - 1) // 2], 0, rest[0])
    if "SOPInstanceUID" not in uids:
        raise _nothing()
    one = instances[0]
    if rest[0] == "frames" and len(rest) in (2, 3):
        numbers = _numbers(rest[1])
        if len(rest) == 3 and rest[2] in ("rendered", "thumbnail"):
            return _picture(request, one, numbers[0], rest[2])
        if len(rest) == 2:
            return _frames(request, one, numbers)
    if rest[0] == "bulkdata" and len(rest) > 1:
        return _bulk(request, one, rest[1:])
    raise _nothing()


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if len(parts) > MOST_FRAMES or not all(
        p.isascii() and p.isdigit() and 0 < len(p) < 8 and int(p) for p in parts
    ):
        raise refuse(400, "invalid", "帧号应为正整数", "frame numbers must be whole numbers, 1 or more")
    return [int(p) for p in parts]


def _files(request: Request, instances: list[Instance]) -> Answer:
    accepted = request.accepted()
    for kind, given in accepted:
        if kind == "application/dicom" and len(instances) == 1:
            syntax = given.get("transfer-syntax", "*")
            if syntax in ("*", instances[0].transfer_syntax):
                file = deliver.delivered(instances[0])
                headers = [
                    ("Content-Type", f"application/dicom; transfer-syntax={instances[0].transfer_syntax}"),
                    ("Content-Length", str(file.size)),
                ]
                return 200, headers, file.chunks()
    if not any(
        kind in ("*/*", "multipart/*") or (kind == "multipart/related" and given.get("type", "application/dicom") in ("application/dicom", "*/*"))
        for kind, given in accepted
    ):  # fmt: skip
        raise _not_acceptable("application/dicom")
    wanted = {given.get("transfer-syntax", "*") for _, given in accepted}
    if "*" not in wanted and not {one.transfer_syntax for one in instances} <= wanted:
        raise _not_acceptable("application/dicom; transfer-syntax=*")
    writer = multipart.Writer("application/dicom")
    files = [deliver.delivered(one) for one in instances]
    heads = [
        writer.head(f"application/dicom; transfer-syntax={one.transfer_syntax}", first=n == 0)
        for n, one in enumerate(instances)
    ]
    size = sum(map(len, heads)) + sum(file.size for file in files) + len(writer.end)

    def pieces() -> Iterator[bytes]:
        for head, file in zip(heads, files, strict=True):
            yield head
            yield from file.chunks()
        yield writer.end

    return 200, [("Content-Type", writer.content_type), ("Content-Length", str(size))], multipart.joined(pieces())  # fmt: skip


def _not_acceptable(kind: str) -> Problem:
    return refuse(406, "not-supported", f"可提供的类型为 {kind}", f"what can be given is {kind}")


def _where(request: Request, one: Instance) -> str:
    return f"{request.base}/studies/{one.study.study_uid}/series/{one.series.uid}/instances/{one.sop_uid}"


def _metadata(request: Request, instances: list[Instance]) -> Answer:
    rows = []
    for one in instances:
        try:
            rows.append(jsonmodel.metadata(one, _where(request, one)))
        except Damaged as error:
            log.error("instance %s cannot be read: %s", one.pk, error)
    body = orjson.dumps(rows)
    headers = [("Content-Type", JSON)]
    if len(body) > http.GZIP_FROM and "gzip" in request.environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = gzip.compress(body, 1)
        headers.append(("Content-Encoding", "gzip"))
    return 200, [*headers, ("Content-Length", str(len(body))), ("Vary", "Accept-Encoding")], [body]


def _frames(request: Request, one: Instance, numbers: list[int]) -> Answer:
    stored = frames.media(one.transfer_syntax)
    plain = stored == "application/octet-stream"
    single = False
    decode = one.transfer_syntax == "1.2.840.10008.1.2.2"
    chosen = None
    for kind, given in request.accepted():
        inner = given.get("type", "*/*") if kind in ("multipart/related", "multipart/*") else kind
        syntax = given.get("transfer-syntax", "")
        if inner not in ("*/*", "image/*", "video/*", "application/octet-stream", stored):
            continue
        if inner in ("*/*", "image/*", "video/*", stored) or plain or syntax in ("*", one.transfer_syntax):
            chosen = (inner, kind)
            break
        if inner == "application/octet-stream" and syntax in ("", "1.2.840.10008.1.2.1"):
            chosen, decode = (inner, kind), True
            break
    if chosen is None:
        raise _not_acceptable(f'multipart/related; type="{stored}"')
    single = len(numbers) == 1 and chosen[1] not in ("multipart/related", "multipart/*", "*/*")
    try:
        found = [frames.decoded(one, n) for n in numbers] if decode else frames.raws(one, numbers)
    except frames.NoFrame as error:
        raise refuse(404, "not-found", "没有这一帧", f"there is no such frame: {error}") from error
    syntax = "1.2.840.10008.1.2.1" if decode or plain else one.transfer_syntax
    kind = "application/octet-stream" if decode else stored
    full = f"{kind}; transfer-syntax={syntax}"
    if single:
        return 200, [("Content-Type", full), ("Content-Length", str(len(found[0])))], [found[0]]
    writer = multipart.Writer(kind)
    pieces: list[bytes] = []
    for n, (number, data) in enumerate(zip(numbers, found, strict=True)):
        pieces += [writer.head(full, f"{_where(request, one)}/frames/{number}", first=n == 0), data]
    pieces.append(writer.end)
    size = sum(map(len, pieces))
    return 200, [("Content-Type", writer.content_type), ("Content-Length", str(size))], multipart.joined(iter(pieces))  # fmt: skip


def _bulk(request: Request, one: Instance, path: list[str]) -> Answer:
    try:
        found = jsonmodel.bulk(one, path)
    except (KeyError, Damaged):
        raise _nothing() from None
    multi = any(kind in ("multipart/related", "multipart/*") for kind, _ in request.accepted())
    writer = multipart.Writer("application/octet-stream")
    head = (
        writer.head(
            "application/octet-stream", f"{_where(request, one)}/bulkdata/{'/'.join(path)}", first=True
        )
        if multi
        else b""
    )
    end = writer.end if multi else b""
    size = len(found) if isinstance(found, bytes) else found[1] - found[0]
    kind = writer.content_type if multi else "application/octet-stream"

    def pieces() -> Iterator[bytes]:
        yield head
        if isinstance(found, bytes):
            yield found
        else:
            with deliver.buffer(one) as data:
                for at in range(found[0], found[1], deliver.CHUNK):
                    yield data[at : min(at + deliver.CHUNK, found[1])]
        yield end

    return 200, [("Content-Type", kind), ("Content-Length", str(len(head) + size + len(end)))], multipart.joined(pieces())  # fmt: skip


def _picture(request: Request, one: Instance, number: int, how: str) -> Answer:
    kinds = [kind for kind, _ in request.accepted()]
    kind = next((k if k in KINDS else "image/jpeg" for k in kinds if k in KINDS or k in ("*/*", "image/*")), None)  # fmt: skip
    if kind is None:
        raise _not_acceptable("image/jpeg, image/png, image/gif")
    size = _pair(request, "viewport", 1, 8192)
    window = _pair(request, "window", -1e7, 1e7)
    quality = _count(request, "quality", 90, 100) or 1
    try:
        if how == "thumbnail" and size is None and kind == "image/jpeg" and not number:
            body = frames.thumbnail(one)
        else:
            edge = (
                (int(size[0]), int(size[1]))
                if size
                else ((frames.THUMBNAIL, frames.THUMBNAIL) if how == "thumbnail" else None)
            )
            number = number or ((one.frames + 1) // 2 if how == "thumbnail" else 1)
            body = frames.rendered(one, number, kind=KINDS[kind], size=edge, window=window, quality=quality)
    except frames.NoFrame as error:
        raise refuse(404, "not-found", "这份影像不能绘制为图片", f"it cannot be drawn: {error}") from error
    return 200, [("Content-Type", kind), ("Content-Length", str(len(body)))], [body]


def _pair(request: Request, name: str, least: float, most: float) -> tuple[float, float] | None:
    text = request.param(name)
    if not text:
        return None
    try:
        a, b = (float(part) for part in text.split(",")[:2])
        if not (least <= a <= most and least <= b <= most):
            raise ValueError
    except ValueError:
        raise refuse(400, "invalid", f"{name} 应为两个数", f"{name} must be two numbers") from None
    return a, b
