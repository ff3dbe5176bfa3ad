"""``$import``: uploads and other sources, rights line by line, refused lines, and doing nothing twice."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lianxin.access import connections
from lianxin.access.models import AuditEvent
from lianxin.exchange.bulk import files, intake, jobs, runner, slices, sources
from lianxin.exchange.bulk.models import BulkJob, BulkLane, BulkUpload
from lianxin.exchange.models import DeadLetter
from lianxin.network.models import Institution
from tests.exchange.bulk_world import Bulk, fill, ids, job_of, parameters
from tests.exchange.client import observation, patient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.LIANXIN_BULK_DIR = tmp_path / "bulk"
    monkeypatch.setattr(slices, "SETTLE", 0.005)
    yield
    connections.close()


@pytest.fixture
def town() -> Bulk:
    Institution.objects.create(
        code="T1", name="甲镇卫生院", kind="township", tier="township", division="331023"
    )
    return Bulk("town", "T1")


def _people(n: int) -> list[dict[str, Any]]:
    return [patient(f"导入{k}", f"19{50 + k}-03-04", id=f"i-{k}") for k in range(n)]


def _results(n: int, each: int = 2) -> list[dict[str, Any]]:
    return [
        json.loads(observation(f"i-{k}", value=str(100 + j))) | {"id": f"i-{k}-{j}"}
        for k in range(n)
        for j in range(each)
    ]


def _count(client: Bulk, rtype: str) -> int:
    return client("GET", f"{rtype}?_summary=count").json["total"]


def test_uploaded_lines_are_taken_patients_first(town: Bulk) -> None:
    manifest = town.imported(
        [("Observation", _results(3)), ("Patient", _people(3))], inputSource="http://hospital.example"
    )
    assert [(o["type"], o["count"]) for o in manifest["output"]] == [
        ("OperationOutcome", 6),
        ("OperationOutcome", 3),
    ]
    assert manifest["error"] == []
    assert manifest["request"] == "http://t/fhir/$import"
    assert (_count(town, "Patient"), _count(town, "Observation")) == (3, 6)
    assert town("GET", "Observation/i-0-0").json["subject"]["reference"] == "Patient/i-0"
    events = AuditEvent.objects.filter(what__startswith="bulk import", person_id__isnull=False)
    assert events.count() == 3


def test_sent_again_it_changes_nothing(town: Bulk) -> None:
    inputs = [
        ("Patient", _people(3)),
        ("Observation", _results(3)),
        ("Organization", [{"resourceType": "Organization", "name": "无号"}]),
    ]
    town.imported(inputs)
    before = {
        r["resource"]["id"]: r["resource"]["meta"]
        for r in town("GET", "Observation?_count=100").json["entry"]
    }
    manifest = town.imported(inputs)
    assert manifest["error"] == []
    assert [o["count"] for o in manifest["output"]] == [3, 6, 1]
    assert {
        r["resource"]["id"]: r["resource"]["meta"]
        for r in town("GET", "Observation?_count=100").json["entry"]
    } == before
    assert _count(town, "Organization") == 1, "a line without an id gets the same id each time"
    changed = _results(3)
    changed[0]["status"] = "amended"
    town.imported([("Observation", changed)])
    assert town("GET", "Observation/i-0-0").json["meta"]["versionId"] == "2"
    assert town("GET", "Observation/i-0-1").json["meta"]["versionId"] == "1"


def test_mode_create_refuses_what_exists_differently(town: Bulk) -> None:
    town.imported([("Patient", _people(2))])
    people = _people(3)
    people[0]["gender"] = "female"
    manifest = town.imported([("Patient", people)], mode="create")
    assert manifest["output"][0]["count"] == 2
    (error,) = town.lines(manifest["error"][0]["url"])
    assert error["issue"][0]["code"] == "conflict"
    assert town("GET", "Patient/i-0").json["gender"] == "male"


def test_refused_lines_become_dead_letters_and_outcomes(town: Bulk) -> None:
    good = _people(2)
    lines = [
        json.dumps(good[0]).encode(),
        b"{ not json",
        b"",
        json.dumps({"resourceType": "Patient", "id": "bad", "gender": "nonsense"}).encode(),
        json.dumps(
            {"resourceType": "Observation", "id": "other-type", "status": "final", "code": {"text": "x"}}
        ).encode(),
        json.dumps({"resourceType": "Nonsense", "id": "x"}).encode(),
        json.dumps(good[1] | {"id": "has space"}).encode(),
        b'{"resourceType":"Patient","id":"a","id":"b"}',
        b"[1,2]",
        b"\xff\xfe",
        json.dumps(good[1]).encode(),
    ]
    manifest = town.imported([("Patient", b"\r\n".join(lines))])
    assert manifest["output"][0]["count"] == 2
    (error,) = manifest["error"]
    assert (error["type"], error["count"], error["inputUrl"]) == (
        "OperationOutcome",
        8,
        manifest["output"][0]["inputUrl"],
    )
    told = town.lines(error["url"])
    places = [o["issue"][0]["diagnostics"].partition(":")[0] for o in told]
    assert places == [f"line {n}" for n in (2, 4, 5, 6, 7, 8, 9, 10)]
    assert told[1]["issue"][0]["expression"] == ["line[4].Patient.gender"]
    letters = DeadLetter.objects.filter(channel="import").order_by("pk")
    assert [bytes(one.payload) for one in letters][:2] == [b"{ not json", lines[3]]
    assert letters[0].institution.code == "T1"


def test_an_observation_of_nobody_is_refused_alone(town: Bulk) -> None:
    lost = json.loads(observation("nobody")) | {"id": "lost"}
    manifest = town.imported([("Patient", _people(1)), ("Observation", [*_results(1), lost])])
    assert [o["count"] for o in manifest["output"]] == [1, 2]
    (error,) = town.lines(manifest["error"][0]["url"])
    assert error["issue"][0]["code"] in ("not-found", "forbidden")
    assert error["issue"][0]["expression"] == ["line[3].Observation.subject"]


def test_nobody_writes_what_the_door_would_refuse(town: Bulk) -> None:
    Institution.objects.create(
        code="T2", name="乙镇卫生院", kind="township", tier="township", division="331023"
    )
    two = Bulk("two", "T2")
    (theirs,) = fill(two, 1, 1)
    mine = json.loads(observation(theirs)) | {"id": "mine"}
    stolen = patient("改名", "1950-01-02", id=theirs)
    manifest = town.imported([("Patient", [stolen]), ("Observation", [mine])])
    assert [o["count"] for o in manifest["output"]] == [0, 0]
    codes = [town.lines(e["url"])[0]["issue"][0]["code"] for e in manifest["error"]]
    assert codes == ["forbidden", "forbidden"]
    assert two("GET", f"Patient/{theirs}").json["name"][0]["text"] == "测试0"
    narrow = Bulk("narrow", "T1", scope="system/Patient.c system/Observation.rs")
    manifest = narrow.imported([("Patient", _people(1)), ("", _results(1))])
    assert [o["count"] for o in manifest["output"]] == [1, 0]
    manifest = narrow.imported([("Patient", [_people(1)[0] | {"gender": "female"}])])
    assert narrow.lines(manifest["error"][0]["url"])[0]["issue"][0]["code"] == "forbidden"
    reader = Bulk("reader", "T1", scope="system/*.rs")
    assert reader.web("POST", "/bulk/upload", b"{}").status_code == 403
    assert reader("POST", "$import", parameters([("Patient", "http://t/bulk/uploads/x")])).status in (
        400,
        403,
    )


def test_a_resource_twice_in_a_chunk_ends_as_the_last_line(town: Bulk) -> None:
    one = _people(1)[0]
    manifest = town.imported([("Patient", [one, one | {"gender": "female"}, one | {"gender": "other"}])])
    assert manifest["error"] == []
    assert town("GET", "Patient/i-0").json["gender"] == "other"


# ---------------------------------------------------------------------------------------------------------------- sources


def test_uploads_may_be_gzip_and_belong_to_their_client(town: Bulk) -> None:
    raw = b"\n".join(json.dumps(p).encode() for p in _people(2))
    packed = gzip.compress(raw[:30]) + gzip.compress(raw[30:])
    answer = town.web("POST", "/bulk/upload", packed, content_encoding="gzip")
    assert answer.status_code == 201, answer.content
    made = json.loads(answer.content)
    assert (made["lines"], made["bytes"]) == (2, len(raw) + 1)
    path = "/bulk/uploads/" + made["url"].rpartition("/")[2]
    other = Bulk("other")
    assert other("POST", "$import", parameters([("Patient", path)])).status == 404
    assert other.web("DELETE", path).status_code == 404
    where = town.begin("$import", parameters([("Patient", path)]))
    runner.turn()  # the job has its own copy now
    assert town.web("DELETE", path).status_code == 204
    assert town.finished(where)["output"][0]["count"] == 2
    assert BulkUpload.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (gzip.compress(b'{"a":1}\n' * 500)[:-10], {}, 400),
        (b"\x1f\x8bnot gzip at all", {}, 400),
        (b"{}", {"content_encoding": "br"}, 415),
        (b"{}", {"content_type": "application/x-www-form-urlencoded"}, 415),
        (b"{" + b" " * (11 << 20), {}, 413),
        (gzip.compress(b"\n" * (3 << 20)), {}, 413),
    ],
    ids=["cut short", "not gzip", "brotli", "a form", "too long", "a bomb"],
)
def test_bad_uploads_are_refused_and_leave_nothing(
    town: Bulk, settings: Any, body: bytes, headers: dict[str, str], status: int
) -> None:
    settings.LIANXIN_BULK_UPLOAD_BYTES = (12 if status == 413 and body[:1] == b"{" else 2) << 20
    answer = town.web("POST", "/bulk/upload", body, **headers)
    assert answer.status_code == status, answer.content
    assert json.loads(answer.content)["resourceType"] == "OperationOutcome"
    assert list(files.folder("uploads").glob("*")) == []


@pytest.mark.parametrize(
    ("allowed", "url", "wanted"),
    [
        ("https://data.example/out", "https://data.example/out/a.ndjson?sig=1", True),
        ("https://data.example/out/", "https://data.example/out", True),
        ("https://data.example", "https://data.example:443/x", True),
        ("https://data.example/out", "https://data.example/outside", False),
        ("https://data.example/out", "https://data.example/out/../secret", False),
        ("https://data.example/out", "https://data.example/out/%2e%2e/secret", False),
        ("https://data.example", "http://data.example/x", False),
        ("https://data.example", "https://data.example.evil.test/x", False),
        ("https://data.example", "https://data.example@evil.test/x", False),
        ("https://data.example", "https://evil.test#https://data.example", False),
        ("https://data.example", "https://data.example:8443/x", False),
        ("https://data.example", "file:///etc/passwd", False),
        ("https://data.example", "gopher://data.example/x", False),
        ("https://data.example", "https://data.example\\@evil.test/", False),
        ("", "http://127.0.0.1:5432/", False),
    ],
)
def test_only_allowed_addresses_are_fetched(settings: Any, allowed: str, url: str, wanted: bool) -> None:
    settings.LIANXIN_BULK_SOURCES = allowed.split()
    assert sources.allowed(url) is wanted


class _Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("=")[2])
            self.end_headers()
        elif self.path.startswith("/out/missing"):
            self.send_error(404)
        else:
            raw = gzip.compress(b"\n".join(json.dumps(p).encode() for p in _people(2)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw) + (9 if "short" in self.path else 0)))
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def far() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_addresses_are_fetched_and_redirects_watched(town: Bulk, far: str, settings: Any) -> None:
    assert town("POST", "$import", parameters([("Patient", f"{far}/out/a")])).status == 403
    settings.LIANXIN_BULK_SOURCES = [f"{far}/out", f"{far}/away"]
    manifest = town.finished(
        town.begin(
            "$import",
            parameters(
                [
                    ("Patient", f"{far}/out/a"), ("Patient", f"{far}/out/missing"), ("Patient", f"{far}/away?to={far}/out/a"),
                    ("Patient", f"{far}/away?to={far}/secret"), ("Patient", f"{far}/away?to=/away?to=/away"), ("Patient", f"{far}/out/short"),
                ]
            ),
        )
    )  # fmt: skip
    assert [o["count"] for o in manifest["output"]] == [2, 0, 2, 0, 0, 0]
    by_input = {e["inputUrl"]: town.lines(e["url"])[0]["issue"][0] for e in manifest["error"]}
    assert len(by_input) == 4, by_input
    assert by_input[f"{far}/away?to={far}/secret"]["code"] == "forbidden"
    assert "HTTP 404" in by_input[f"{far}/out/missing"]["diagnostics"]


def test_a_binary_is_a_source(town: Bulk) -> None:
    import base64

    raw = b"\n".join(json.dumps(p).encode() for p in _people(2))
    body = {
        "resourceType": "Binary",
        "contentType": "application/fhir+ndjson",
        "data": base64.b64encode(raw).decode(),
    }
    rid = town("POST", "Binary", body).json["id"]
    assert (
        town.finished(town.begin("$import", parameters([("Patient", f"Binary/{rid}")])))["output"][0]["count"]
        == 2
    )
    hidden = Bulk("other-town", None, "system/*.cruds")
    manifest = hidden.finished(hidden.begin("$import", parameters([("Patient", "Binary/none")])))
    assert hidden.lines(manifest["error"][0]["url"])[0]["issue"][0]["code"] == "not-found"


def test_the_plain_json_manifest_is_taken_too(town: Bulk) -> None:
    answer = town.web("POST", "/bulk/upload", b"\n".join(json.dumps(p).encode() for p in _people(1)))
    manifest = {
        "inputFormat": "application/fhir+ndjson", "inputSource": "https://other.example", "storageDetail": {"type": "https"},
        "input": [{"type": "Patient", "url": json.loads(answer.content)["url"].replace("testserver", "t")}],
    }  # fmt: skip
    assert (
        town.finished(town.begin("$import", manifest, CONTENT_TYPE="application/json"))["output"][0]["count"]
        == 1
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"resourceType": "Patient"},
        {"resourceType": "Parameters", "parameter": []},
        parameters([("Nonsense", "Binary/1")]),
        parameters([("Patient", "")]),
        parameters([("Patient", "Binary/1")], mode="destroy"),
        parameters([("Patient", "Binary/1")], unheard="1"),
        parameters([("Patient", "Binary/1")])
        | {"parameter": [{"name": "inputFormat", "valueCode": "text/csv"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "input", "valueString": "x"}]},
        {"input": "x"},
        {"input": [{"url": 7}]},
        {"input": [{"url": "Binary/1"}], "storageDetail": {"type": "aws-s3"}},
        {"input": [{"url": "Binary/1"}], "storageDetail": {"type": "https", "credentialHttpBasic": "a:b"}},
    ],
)
def test_kick_offs_that_make_no_sense_are_refused(town: Bulk, body: Any) -> None:
    reply = town("POST", "$import", body, PREFER="respond-async")
    assert reply.status in (400, 403, 422), reply.raw
    assert reply.json["resourceType"] == "OperationOutcome"
    assert BulkJob.objects.count() == 0
    assert town("GET", "$import").status == 405


# ------------------------------------------------------------------------------------------------------------ steadiness


def test_a_chunk_and_its_progress_are_one(town: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAME", 400)
    raw = b"\n".join(json.dumps(p).encode() for p in _people(12))
    answer = town.web("POST", "/bulk/upload", raw)
    where = town.begin(
        "$import", parameters([("Patient", json.loads(answer.content)["url"].replace("testserver", "t"))])
    )
    real = intake._dead
    blows = iter([3, 1, 2])
    left = [next(blows)]

    def dying(*args: Any) -> None:
        real(*args)
        left[0] -= 1
        if left[0] == 0:
            left[0] = next(blows, 10**6)
            raise RuntimeError("killed before the commit")

    monkeypatch.setattr(intake, "_dead", dying)
    while job_of(where).status in ("waiting", "running"):
        BulkLane.objects.update(not_before=None)
        runner.turn()
    manifest = town.finished(where)
    assert manifest["output"][0]["count"] == 12
    assert {r["resource"]["meta"]["versionId"] for r in town("GET", "Patient?_count=100").json["entry"]} == {
        "1"
    }
    assert ids(
        {"Patient": [r["resource"] for r in town("GET", "Patient?_count=100").json["entry"]]}, "Patient"
    ) == sorted(f"i-{k}" for k in range(12))


def test_a_cancelled_import_stops_between_chunks(town: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAME", 400)
    raw = b"\n".join(json.dumps(p).encode() for p in _people(12))
    answer = town.web("POST", "/bulk/upload", raw)
    where = town.begin(
        "$import", parameters([("Patient", json.loads(answer.content)["url"].replace("testserver", "t"))])
    )
    for _ in range(3):
        runner.turn()
    assert town.web("DELETE", where).status_code == 202
    runner.drain()
    assert 0 < _count(town, "Patient") < 12
    assert town.web("GET", where).status_code == 404


def test_an_input_full_of_errors_is_stopped(town: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAME", 400)
    monkeypatch.setattr(intake, "MAX_REFUSED", 20)
    manifest = town.imported([("Patient", b"nonsense\n" * 400)])
    told = town.lines(manifest["error"][0]["url"])
    assert 20 < len(told) < 400
    assert told[-1]["issue"][0]["code"] == "too-costly"


def test_uploads_expire(town: Bulk, settings: Any) -> None:
    settings.LIANXIN_BULK_HOURS = 0
    answer = town.web("POST", "/bulk/upload", b"{}")
    jobs.tidy()
    assert BulkUpload.objects.count() == 0
    assert list(files.folder("uploads").glob("*")) == []
    url = json.loads(answer.content)["url"].replace("testserver", "t")
    assert town("POST", "$import", parameters([("Patient", url)])).status == 404
