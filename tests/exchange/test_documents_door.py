"""Documents in: registered once, versions, kept byte-true, read into the record, refused with a reason; nothing half-stored."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from django.test import Client as Browser

from lianxin.access import tokens
from lianxin.access.models import AuditEvent
from lianxin.exchange.cda import door
from lianxin.exchange.cda.models import RegisteredDocument
from lianxin.exchange.feeds import inbox, keeping
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.index.models import Person, SourceRecord
from tests.exchange import documents_world as world
from tests.exchange.client import Client
from tests.factories import SmallCounty, small_county

XML = {"content_type": "application/xml"}


@pytest.fixture
def county(transactional_db: None) -> SmallCounty:
    return small_county()


class Sender:
    """A system of an institution that posts documents, and its FHIR client."""

    def __init__(
        self, code: str | None = "SC-RMYY", scope: str = "system/*.cruds", name: str = "his"
    ) -> None:
        self.fhir = Client(f"{name}-{code}", code, scope)
        self.browser = Browser(raise_request_exception=False)

    def __call__(self, body: bytes, kind: str = "application/xml", **headers: str) -> Any:
        given = {"authorization": f"Bearer {self.fhir.token}", **headers}
        return self.browser.post("/documents", data=body, content_type=kind, headers=given)


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


def found(client: Client, query: str) -> list[dict[str, Any]]:
    reply = client("GET", query)
    assert reply.status == 200, reply.raw
    return [e["resource"] for e in reply.json.get("entry", [])]


def test_a_report_is_registered_read_and_kept_byte_true(county: SmallCounty) -> None:
    send = Sender()
    raw = world.lab(series="S-1")
    answer = send(raw)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    arrival = Arrival.objects.get(pk=int(told["id"].removeprefix("arrival-")))
    assert (arrival.kind, arrival.state, arrival.door) == ("WS/T 500.7", "taken", "cda")
    assert inbox.body_of(arrival) == raw
    reference = found(send.fhir, "DocumentReference?type=34133-9,C0007&status=current")[0]
    assert answer.headers["Location"].endswith(f"DocumentReference/{reference['id']}")
    attachment = reference["content"][0]["attachment"]
    assert attachment["size"] == len(raw)
    assert reference["custodian"]["reference"] == "Organization/SC-RMYY"
    assert reference["masterIdentifier"] == {"system": "urn:oid:2.16.156.10011.1.1", "value": "JY-1"}
    binary = send.fhir("GET", attachment["url"], ACCEPT="application/xml")
    assert binary.raw == raw
    assert binary.headers["Content-Type"] == "application/xml"
    patient = reference["subject"]["reference"]
    glucose = found(send.fhir, f"Observation?patient={patient}")
    assert [o.get("valueQuantity", {}).get("value") for o in glucose] == [6.8]
    assert found(send.fhir, f"Condition?patient={patient}&code=E11.900")
    composition = found(send.fhir, f"Composition?patient={patient}")[0]
    assert {"reference": f"Composition/{composition['id']}"} in reference["context"]["related"]
    assert arrival.person_id == Person.objects.unscoped("test").get().pk
    assert f"DocumentReference/{reference['id']}/1" in arrival.resources
    assert AuditEvent.objects.filter(action="create", person_id=arrival.person_id).exists()


def test_the_same_document_is_one_whoever_sends_it(county: SmallCounty) -> None:
    send, other = Sender(), Sender(name="second")
    raw = world.lab()
    first, again, elsewhere = send(raw), send(raw), other(raw)
    assert [a.status_code for a in (first, again, elsewhere)] == [201, 200, 200]
    assert RegisteredDocument.objects.count() == 1
    assert len(found(send.fhir, "DocumentReference")) == 1
    assert len(found(send.fhir, "Observation?_count=50")) == 1
    assert Arrival.objects.get(sender__startswith="client", attempts=2).state == "taken"


def test_other_content_under_one_number_is_refused_unless_the_version_is_higher(county: SmallCounty) -> None:
    send = Sender()
    assert send(world.lab()).status_code == 201
    refused = send(world.lab(glucose="9.9"))
    assert refused.status_code == 409
    assert refused.json()["issue"][0]["code"] == "duplicate"
    assert send(world.lab(glucose="9.9", version="2")).status_code == 201
    rows = RegisteredDocument.objects.order_by("version")
    assert [(r.version, r.status) for r in rows] == [(1, "superseded"), (2, "current")]
    values = [o["valueQuantity"]["value"] for o in found(send.fhir, "Observation")]
    assert values == [9.9]
    by_status = {d["status"]: d for d in found(send.fhir, "DocumentReference")}
    assert set(by_status) == {"current", "superseded"}


def test_a_new_version_takes_back_what_only_the_earlier_said(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab("JY-1", series="S-1", extra=world.picture()))
    before = found(send.fhir, "Observation?_count=50")
    assert len(before) == 2
    assert send(world.lab("JY-2", series="S-1", version="2", glucose="7.1")).status_code == 201
    after = found(send.fhir, "Observation?_count=50")
    assert [o["valueQuantity"]["value"] for o in after] == [7.1]
    assert after[0]["id"] in {o["id"] for o in before}
    late = send(world.lab("JY-0", series="S-1", version="0", glucose="1.0"))
    assert late.status_code == 201
    assert RegisteredDocument.objects.get(number__endswith="JY-0").status == "superseded"
    assert [o["valueQuantity"]["value"] for o in found(send.fhir, "Observation")] == [7.1]


def test_a_related_document_replaces_and_comes_in_any_order(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab("JY-1"))
    send(world.lab("JY-2", glucose="7.7", related=world.replaces("JY-1")))
    first = RegisteredDocument.objects.get(number__endswith="JY-1")
    second = RegisteredDocument.objects.get(number__endswith="JY-2")
    assert (first.status, second.status) == ("superseded", "current")
    told = send.fhir("GET", f"DocumentReference/{second.reference}").json
    assert told["relatesTo"] == [
        {"code": "replaces", "target": {"reference": f"DocumentReference/{first.reference}"}}
    ]
    send(world.lab("JY-9", related=world.replaces("JY-8")))
    send(world.lab("JY-8", glucose="1.1"))
    assert RegisteredDocument.objects.get(number__endswith="JY-8").status == "superseded"


def test_a_set_id_used_for_everybody_joins_nothing(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab("JY-1", series="FIXED"))
    send(world.lab("JY-2", series="FIXED", local="MR-78", name="贝测另", id_no="", version="2"))
    send(world.lab("JY-3", series="FIXED"))
    assert set(RegisteredDocument.objects.values_list("status", flat=True)) == {"current"}
    assert Finding.objects.filter(rule="document.series").count() == 2


def test_a_patient_of_messages_and_documents_is_one(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab("JY-1"))
    send(world.lab("JY-2", local="", glucose="5"))
    send(world.lab("JY-3", id_no="", glucose="4"))
    assert SourceRecord.objects.unscoped("test").count() == 1
    assert send(world.lab("JY-4", local="", id_no="")).status_code == 422


def test_somebody_else_under_the_number_is_held_back(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab("JY-1"))
    held = send(world.lab("JY-2", name="束测他", id_no="330102199002022324", birth="19900202"))
    assert held.status_code == 202, held.content
    assert RegisteredDocument.objects.count() == 1
    kept = Arrival.objects.get(state="quarantined")
    verdict = inbox.replay(kept.pk, release=True)
    assert verdict.state == "taken"
    assert RegisteredDocument.objects.count() == 2


def test_another_institutions_document_is_refused_but_the_platform_sends_for_all(county: SmallCounty) -> None:
    refused = Sender("SC-T1")(world.lab())
    assert refused.status_code == 403
    assert "县人民医院" in refused.json()["issue"][0]["details"]["text"]
    assert not RegisteredDocument.objects.exists()
    platform = Sender(None, name="platform")
    assert platform(world.lab()).status_code == 201
    assert RegisteredDocument.objects.get().institution.code == "SC-RMYY"


def test_confidential_documents_are_marked_everywhere(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab(secret="V"))
    for rtype in ("DocumentReference", "Observation", "Condition", "Composition"):
        labels = [r["meta"]["security"][0]["code"] for r in found(send.fhir, rtype)]
        assert labels == ["V"], rtype


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b" \n ", 400, "structure"),
        (b"not xml at all", 400, "structure"),
        (world.lab()[:900], 400, "structure"),
        (world.bomb(), 400, "security"),
        (b"<a/>", 400, "structure"),
        (world.lab().replace(b'<id root="2.16.156.10011.1.1" extension="JY-1"/>', b""), 422, "required"),
    ],
)
def test_what_cannot_be_read_is_told_and_kept(
    county: SmallCounty, body: bytes, status: int, code: str
) -> None:
    send = Sender()
    answer = send(body)
    assert answer.status_code == status, answer.content
    told = answer.json()
    assert told["issue"][0]["code"] == code
    assert told["issue"][0]["details"]["text"]
    kept = Arrival.objects.get()
    assert (kept.state, inbox.body_of(kept)) == ("refused", body)
    assert send(body).status_code == status
    assert Arrival.objects.get().attempts == 2
    assert inbox.replay(kept.pk).state == "refused"


def test_many_in_an_archive_each_with_its_answer(county: SmallCounty) -> None:
    send = Sender()
    archive = zipped(
        **{"a.xml": world.lab("A"), "b.xml": b"<broken", "c.xml": world.lab("C", encoding="gb18030")}
    )
    answer = send(archive, "application/zip")
    assert answer.status_code == 200
    statuses = [e["response"]["status"] for e in answer.json()["entry"]]
    assert statuses == ["201", "400", "201"]
    form = send.browser.post(
        "/documents", {"file": io.BytesIO(archive)}, headers={"authorization": f"Bearer {send.fhir.token}"}
    )
    assert [e["response"]["status"] for e in form.json()["entry"]] == ["200", "400", "200"]
    assert RegisteredDocument.objects.count() == 2


def test_archives_that_are_bombs_or_broken(county: SmallCounty, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Sender()
    bomb = send(zipped(**{"a.xml": b"0" * 30_000_000}), "application/zip")
    assert bomb.status_code == 413
    assert send(b"PK\x03\x04 broken", "application/zip").status_code == 400
    monkeypatch.setattr("lianxin.exchange.cda.door_files.MOST_FILES", 1)
    assert send(zipped(a=b"<a/>", b=b"<b/>"), "application/zip").status_code == 413
    assert Arrival.objects.filter(state="refused").count() == 3


def test_who_may_not_send(county: SmallCounty) -> None:
    browser = Browser()
    assert browser.post("/documents", world.lab(), **XML).status_code == 401
    wrong = {"authorization": "Bearer nonsense"}
    assert browser.post("/documents", world.lab(), **XML, headers=wrong).status_code == 401
    assert Sender(scope="system/*.rs", name="reader")(world.lab()).status_code == 403
    assert Sender(name="x")(world.lab(), "application/json").status_code == 415
    send = Sender(scope="system/DocumentReference.c", name="only")
    assert send(world.lab()).status_code == 201
    assert browser.get("/documents").status_code == 405
    assert not Arrival.objects.exclude(state="taken").exists()


def test_too_large_is_refused_at_once(county: SmallCounty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lianxin.exchange.cda.door_http.MOST_SENT", 1000)
    answer = Sender()(world.lab())
    assert answer.status_code == 413
    assert not Arrival.objects.exists()


def test_nothing_is_half_stored(county: SmallCounty, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in the middle leaves nothing: everything is one transaction."""
    send = Sender()

    died: list[bool] = []
    keep = keeping.keep

    def dies_once(*args: Any, **kwargs: Any) -> Any:
        if not died:
            died.append(True)
            raise RuntimeError("killed after everything was written, before the commit")
        return keep(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "keep", dies_once)
        assert send(world.lab()).status_code == 500
    assert not RegisteredDocument.objects.exists()
    assert not SourceRecord.objects.unscoped("test").exists()
    assert not found(send.fhir, "Binary")
    assert Arrival.objects.get().state == "refused"
    assert send(world.lab()).status_code == 201
    assert Arrival.objects.get().state == "taken"


def test_an_unknown_kind_is_kept_with_a_warning(county: SmallCounty) -> None:
    raw = (
        world.lab()
        .replace(b"2.16.156.10011.2.1.1.27", b"1.2.3.4.5")
        .replace(b"C0007", b"ZZ99")
        .replace("检验报告".encode(), "本院特色文书".encode())
    )
    answer = Sender()(raw)
    assert answer.status_code == 201, answer.content
    assert any(i["severity"] == "warning" for i in answer.json()["issue"])
    assert Finding.objects.filter(rule="document.kind").exists()
    assert RegisteredDocument.objects.get().family == "CDA"


def test_a_damaged_file_of_many_by_command(county: SmallCounty, tmp_path: Any) -> None:
    from lianxin.access.scope import Scope
    from lianxin.exchange.cda import door_files

    (tmp_path / "a.xml").write_bytes(world.lab("A"))
    (tmp_path / "b.zip").write_bytes(zipped(**{"c.xml": world.lab("C"), "__MACOSX/x": b"x"}))
    (tmp_path / "d.zip").write_bytes(b"PK\x03\x04")
    done = door.take(Scope.system("test"), door_files.of_paths([tmp_path]), "command")
    assert [(d.name, d.verdict.state) for d in done] == [
        ("a.xml", "taken"), ("b.zip/c.xml", "taken"), ("d.zip", "refused"),
    ]  # fmt: skip


def test_the_receipt_speaks_both_languages(county: SmallCounty) -> None:
    told = json.loads(Sender()(world.lab()).content)
    assert told["issue"][0]["details"]["text"] == "已登记：WS/T 500.7"
    assert told["issue"][0]["diagnostics"] == "registered: WS/T 500.7"
    assert tokens.scope_for_token("nothing") is None
