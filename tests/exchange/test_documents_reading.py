"""Documents for readers: safe narrative, pages with rights and audit, FHIR provide and retrieve, C-CDA, and documents out."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client as Browser
from django.urls import reverse

from lianxin.access import audit
from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope, scope_for_account
from lianxin.exchange.cda import ccda, door, issue, mapping, reading, render, render_narrative
from lianxin.exchange.cda.door_files import Named
from lianxin.exchange.cda.models import RegisteredDocument
from lianxin.exchange.feeds.errors import Refusal
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.record import bodies, validate
from tests.exchange import documents_world as world
from tests.exchange.client import Client
from tests.exchange.test_documents_door import Sender, found
from tests.factories import SmallCounty, make_institution, make_post, small_county


@pytest.fixture
def county(transactional_db: None) -> SmallCounty:
    return small_county()


def signed_in(post: Any) -> Browser:
    browser = Browser(headers={"accept-language": "zh-hans"}, raise_request_exception=False)
    browser.force_login(account_of(post), backend=settings.AUTHENTICATION_BACKENDS[0])
    return browser


def account_of(post: Any) -> Account:
    held = Account.objects.filter(practitioner=post.practitioner).first()
    return held or Account.objects.create(
        username=f"u{post.pk}", name=post.practitioner.name, practitioner=post.practitioner
    )


def kept(raw: bytes) -> RegisteredDocument:
    """A document taken by the platform itself."""
    done = door.take(Scope.system("test"), [Named("x.xml", raw)], "command")[0]
    assert done.verdict.state == "taken", done.verdict.reason
    return RegisteredDocument.objects.get(pk=done.registered.pk if done.registered else 0)


# -------------------------------------------------------------------------------------------------------------- narrative


def test_narrative_keeps_words_and_drops_what_acts() -> None:
    document = reading.read(world.lab(narrative=world.HOSTILE))
    shown = render.sheet(document, world.lab(narrative=world.HOSTILE), lambda part: "/part").sections[0].html
    for bad in ("<script", "alert", "onclick", "javascript:", "<img", "<iframe", "<svg", "<a ", "onload"):
        assert bad not in shown, bad
    assert "<strong>头痛</strong>" in shown
    assert "&lt;b&gt;粗体&lt;/b&gt;" in shown
    assert "点击" in shown
    assert "(http://evil.example/p)" in shown


def test_tables_and_lists_keep_their_shape() -> None:
    from lxml import etree

    text = etree.fromstring(
        '<text><list listType="ordered"><caption>清单</caption><item>甲</item></list><table><tr><td colspan="2" rowspan="9999" '
        'style="x" align="right">乙</td></tr></table><unknown>丙<br/>丁</unknown></text>'
    )
    assert render_narrative.html(text) == (
        '<ol><div>清单</div><li>甲</li></ol><div class="table-wrap"><table class="table table-sm table-bordered"><tr>'
        '<td colspan="2" class="text-end">乙</td></tr></table></div>丙<br>丁'
    )
    assert render_narrative.words(text).split("\n")[:2] == ["清单", "甲"]
    assert render_narrative.html(None) == ""


def test_a_sheet_shows_facts_elements_images_and_unknown_sections() -> None:
    raw = world.lab(extra=world.picture())
    sheet = render.sheet(reading.read(raw), raw, lambda part: f"/parts/{part.number}")
    facts = {str(label.zh): value for label, value in sheet.facts}
    assert facts["姓名"] == "祁测文"
    assert facts["性别"] == "男"
    assert facts["出生日期"] == "1980-01-01"
    assert facts["审核"] == "盛审核"
    rows = {(r.code, r.value) for s in sheet.sections for r in s.rows}
    assert ("DE05.01.024.00", "2型糖尿病（E11.900）") in rows
    assert ("DE04.30.015.00", "6.8") in rows
    assert "本院自定义章节" in [s.title for s in sheet.sections]
    assert any("自定义内容完整保留" in s.html for s in sheet.sections)
    assert [p.data for p in sheet.parts] == [world.PNG]
    assert any('src="/parts/0"' in s.html for s in sheet.sections)
    assert sheet.attachments == []


def test_a_document_without_sections_shows_its_body() -> None:
    pdf = base64.b64encode(b"%PDF-1.4 invented").decode()
    body = f'<component><nonXMLBody><text mediaType="application/pdf" representation="B64">{pdf}</text></nonXMLBody></component>'
    start, _, rest = world.lab().decode().partition("<component><structuredBody>")
    raw = (start + body + "</ClinicalDocument>").encode()
    assert rest
    sheet = render.sheet(reading.read(raw), raw, lambda part: "")
    assert [(p.media_type, p.image) for p in sheet.attachments] == [("application/pdf", False)]
    lying = raw.replace(pdf.encode(), base64.b64encode(b"<html><script>").rstrip(b"=") + b"==")
    assert render.sheet(reading.read(lying), lying, lambda part: "").attachments == []


# ------------------------------------------------------------------------------------------------------------------ C-CDA


def mapped(raw: bytes) -> dict[str, list[dict[str, Any]]]:
    document = reading.read(raw)
    assert document.foreign == "c-cda"
    made = ccda.resources(document, "Patient/p", mapping.Context("H", "Organization/H", "k")).resources
    for one in made:
        issues, _ = validate.check(one)
        assert not issues, (one["resourceType"], [i.text.en for i in issues])
    return world.by_type(made)


def test_ccd_becomes_what_it_says() -> None:
    by = mapped(world.ccd())
    words = {c["code"]["text"]: c["clinicalStatus"]["coding"][0]["code"] for c in by["Condition"]}
    assert words == {"Hypertension": "active", "Pneumonia": "resolved", "Headache": "active"}
    hypertension = by["Condition"][0]
    assert {c["code"] for c in hypertension["code"]["coding"]} == {"38341003", "I10"}
    assert hypertension["onsetDateTime"] == "2020-01-01"
    allergy = by["AllergyIntolerance"][0]
    assert allergy["code"]["coding"][0]["code"] == "7980"
    assert allergy["reaction"][0]["severity"] == "severe"
    drug = by["MedicationStatement"][0]
    assert drug["status"] == "active"
    assert drug["effectivePeriod"]["start"] == "2025-01-01"
    assert by["Immunization"][0]["lotNumber"] == "L-1"
    assert {p["code"]["text"] for p in by["Procedure"]} == {"Appendectomy", "Dressing change"}
    results = {o["code"]["coding"][0]["code"]: o for o in by["Observation"]}
    assert results["2345-7"]["valueQuantity"]["value"] == 122
    assert results["2345-7"]["referenceRange"][0]["high"]["value"] == 99
    assert results["2951-2"]["dataAbsentReason"]
    assert results["8480-6"]["category"][0]["coding"][0]["code"] == "vital-signs"
    report = by["DiagnosticReport"][0]
    assert len(report["result"]) == 2
    assert by["Encounter"][0]["class"]["code"] == "AMB"
    assert any(s.get("title") == "Advance directives" for s in by["Composition"][0]["section"])


def test_other_dialects_are_understood_by_section() -> None:
    old = mapped(world.old_ccd())
    assert old["Condition"][0]["clinicalStatus"]["coding"][0]["code"] == "resolved"
    assert old["AllergyIntolerance"][0]["code"]["coding"][0]["code"] == "716186003"
    bare = mapped(world.bare())
    assert bare["Condition"][0]["category"][0]["coding"][0]["code"] == "encounter-diagnosis"
    assert bare["AllergyIntolerance"][0]["code"]["text"] == "Peanut"
    assert bare["AllergyIntolerance"][0]["category"] == ["food"]
    assert bare["Observation"][0]["valueQuantity"]["value"] == 72


def test_a_document_from_abroad_is_registered_like_any_other(county: SmallCounty) -> None:
    send = Sender()
    assert send(world.ccd()).status_code == 201
    row = RegisteredDocument.objects.get()
    assert (row.family, row.kind) == ("C-CDA", "C-CDA 34133-9")
    patient = found(send.fhir, "Patient")[0]
    assert patient["name"][0]["text"] == "Ilse Example"
    assert {i["value"] for i in patient["identifier"]} == {"998991"}
    assert len(found(send.fhir, f"Condition?patient={patient['id']}")) == 3
    shown = signed_in(county.posts["clinician"]).get(reverse("documents:one", args=[row.pk]))
    assert shown.status_code == 200
    assert "Hypertension" in shown.content.decode()


# ------------------------------------------------------------------------------------------------------------------- FHIR


def provide(client: Client, patient: str, raw: bytes, **more: Any) -> Any:
    """A Provide Document Bundle (ITI-65)."""
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": base64.b64encode(raw).decode()}
    reference = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": f"Patient/{patient}"},
        "type": {"coding": [{"system": "http://loinc.org", "code": "11502-2"}]}, "date": "2026-03-01T10:00:00+08:00",
        "content": [{"attachment": {"contentType": "text/xml", "url": "urn:uuid:5c0e8a0a-0000-4000-8000-00000000000b"}}], **more,
    }  # fmt: skip
    listed = {
        "resourceType": "List", "status": "current", "mode": "working", "subject": {"reference": f"Patient/{patient}"},
        "entry": [{"item": {"reference": "urn:uuid:5c0e8a0a-0000-4000-8000-00000000000a"}}],
    }  # fmt: skip
    return client("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:5c0e8a0a-0000-4000-8000-00000000000c", "resource": listed, "request": {"method": "POST", "url": "List"}},
        {"fullUrl": "urn:uuid:5c0e8a0a-0000-4000-8000-00000000000a", "resource": reference, "request": {"method": "POST", "url": "DocumentReference"}},
        {"fullUrl": "urn:uuid:5c0e8a0a-0000-4000-8000-00000000000b", "resource": binary, "request": {"method": "POST", "url": "Binary"}},
    ]})  # fmt: skip


def registered_patient(client: Client, name: str = "祁测文", birth: str = "1980-01-01") -> str:
    made = client(
        "POST",
        "Patient",
        {"resourceType": "Patient", "name": [{"text": name}], "gender": "male", "birthDate": birth},
    )
    assert made.status == 201, made.raw
    return str(made.json["id"])


def test_mhd_provides_a_document_that_is_read(county: SmallCounty) -> None:
    client = Client("mhd", "SC-RMYY")
    patient = registered_patient(client)
    reply = provide(client, patient, world.lab(local="", id_no="330102198001012313"))
    assert reply.status == 200, reply.raw
    row = RegisteredDocument.objects.get()
    assert row.kind == "WS/T 500.7"
    assert [o["valueQuantity"]["value"] for o in found(client, f"Observation?patient={patient}")] == [6.8]
    listed = found(client, f"DocumentReference?patient={patient}&type=11502-2&date=2026-03-01")
    assert [d["id"] for d in listed] == [row.reference]
    fetched = client("GET", listed[0]["content"][0]["attachment"]["url"], ACCEPT="text/xml")
    assert fetched.raw == world.lab(local="", id_no="330102198001012313")


def test_a_reference_posted_by_itself_is_registered_and_its_bytes_are_sealed(county: SmallCounty) -> None:
    client = Client("mhd", "SC-RMYY")
    patient = registered_patient(client)
    raw = world.lab(local="", id_no="330102198001012313")
    binary = client(
        "POST",
        "Binary",
        {"resourceType": "Binary", "contentType": "text/xml", "data": base64.b64encode(raw).decode()},
    )
    assert binary.status == 201, binary.raw
    given = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": f"Patient/{patient}"},
        "content": [{"attachment": {"contentType": "text/xml", "url": f"Binary/{binary.json['id']}"}}],
    }  # fmt: skip
    assert client("POST", "DocumentReference", given).status == 201
    assert RegisteredDocument.objects.get().kind == "WS/T 500.7"
    assert found(client, f"Observation?patient={patient}")
    with connection.cursor() as cur:
        cur.execute("SELECT body FROM record_resource WHERE rtype = 'Binary'")
        assert {bytes(row[0][:1]) for row in cur.fetchall()} == {bodies.SEALED}


def test_mhd_refuses_another_persons_document_and_broken_ones(county: SmallCounty) -> None:
    client = Client("mhd", "SC-RMYY")
    patient = registered_patient(client, "另一人", "1950-02-03")
    refused = provide(client, patient, world.lab())
    assert refused.status == 422
    assert "不是同一人" in refused.issues[0]["details"]["text"]
    broken = provide(client, patient, world.lab()[:2500])
    assert broken.status == 422
    assert not RegisteredDocument.objects.exists()
    assert not found(client, "DocumentReference")


def test_mhd_takes_any_other_format_as_it_is(county: SmallCounty) -> None:
    client = Client("mhd", "SC-RMYY")
    patient = registered_patient(client)
    assert provide(client, patient, b"<other>no CDA</other>", description="外院扫描件").status == 200
    row = RegisteredDocument.objects.get()
    assert (row.family, row.title) == ("other", "外院扫描件")
    shown = signed_in(county.posts["clinician"]).get(reverse("documents:one", args=[row.pk]))
    assert "不是 CDA" in shown.content.decode()


def test_bytes_open_to_whoever_may_see_the_document(county: SmallCounty) -> None:
    send = Sender()
    send(world.lab())
    row = RegisteredDocument.objects.get()
    stranger, neighbour = Client("t3", "SC-T3"), Client("t1", "SC-T1")
    assert stranger("GET", f"Binary/{row.binary}", ACCEPT="application/xml").status == 404
    registered = neighbour("POST", "Patient", {
        "resourceType": "Patient", "name": [{"text": "祁测文"}], "gender": "male", "birthDate": "1980-01-01",
        "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": "330102198001012313"}],
    })  # fmt: skip
    assert registered.status == 201
    before = AuditEvent.objects.filter(action="read").count()
    got = neighbour("GET", f"Binary/{row.binary}", ACCEPT="application/xml")
    assert (got.status, got.raw) == (200, world.lab())
    person = Person.objects.unscoped("test").get()
    assert AuditEvent.objects.filter(action="read", person_id=person.pk).count() > 0
    assert AuditEvent.objects.filter(action="read").count() > before


# ------------------------------------------------------------------------------------------------------------------ pages


def test_pages_show_the_list_to_some_and_the_words_to_few(county: SmallCounty) -> None:
    row = kept(world.lab(extra=world.picture()))
    one, listing = reverse("documents:one", args=[row.pk]), reverse("documents:list")
    seen = {}
    posts = {
        "clinician": county.posts["clinician"], "gp of another": county.posts["gp2"],
        "system_admin": county.posts["system_admin"], "audit_admin": county.posts["audit_admin"],
        "index": make_post(county.lead, roles.INDEX_MANAGER), "outside index": make_post(make_institution("OUT-9", "hospital"), roles.INDEX_MANAGER),
    }  # fmt: skip
    for name, post in posts.items():
        browser = signed_in(post)
        shown = browser.get(listing)
        seen[name] = (
            shown.status_code,
            "WS/T 500.7 检验报告" in shown.content.decode(),
            browser.get(one).status_code,
        )
    assert seen == {
        "clinician": (200, True, 200), "gp of another": (200, False, 404), "system_admin": (200, True, 403),
        "audit_admin": (403, False, 404), "index": (200, True, 200), "outside index": (200, False, 404),
    }  # fmt: skip
    person = Person.objects.unscoped("test").get()
    assert (
        AuditEvent.objects.filter(
            action="read", person_id=person.pk, what=f"DocumentReference/{row.reference}"
        ).count()
        == 2
    )
    assert audit.verify() == []


def test_a_page_with_its_parts_paper_and_original(county: SmallCounty) -> None:
    raw = world.lab(extra=world.picture())
    row = kept(raw)
    browser = signed_in(county.posts["clinician"])
    page = browser.get(reverse("documents:one", args=[row.pk]))
    shown = page.content.decode()
    assert "数据元素" in shown
    assert "DE05.01.024.00" in shown
    assert f'src="/feeds/documents/{row.pk}/parts/0"' in shown
    part = browser.get(reverse("documents:part", args=[row.pk, 0]))
    assert (part.content, part.headers["Content-Type"]) == (world.PNG, "image/png")
    assert "sandbox" in part.headers["Content-Security-Policy"]
    assert browser.get(reverse("documents:part", args=[row.pk, 7])).status_code == 404
    assert browser.get(reverse("documents:original", args=[row.pk])).content == raw
    paper = browser.get(reverse("documents:paper", args=[row.pk]))
    assert paper.content.startswith(b"%PDF-")
    assert AuditEvent.objects.filter(action="print").exists()


def test_finding_by_person_kind_institution_and_time_in_steady_pages(
    county: SmallCounty, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lianxin.exchange.cda import pages_find

    for n in range(5):
        kept(world.lab(f"JY-{n}"))
    kept(world.lab("JZ-1", local="MR-2", id_no="", name="贝测另"))
    browser = signed_in(county.posts["clinician"])
    listing = reverse("documents:list")
    person = Person.objects.unscoped("test").get(name="祁测文")
    monkeypatch.setattr(pages_find, "PAGE", 2)
    seen: list[str] = []
    query = f"?person={person.number}&kind=WS/T 500.7&institution=SC-RMYY&since=2020-01-01"
    before = ""
    for _ in range(3):
        response = browser.get(f"{listing}{query}&before={before}")
        found_now = response.context["found"]
        seen += [line.row.number[-4:] for line in found_now.lines]
        kept(world.lab(f"NEW-{len(seen)}"))  # what comes meanwhile shifts nothing
        before = found_now.more.replace("+", "%2B")
    assert seen == ["JY-4", "JY-3", "JY-2", "JY-1", "JY-0"]
    assert not browser.get(f"{listing}?until=2020-01-01").context["found"].lines
    wrong = browser.get(f"{listing}?person=0000000000&since=yesterday&before=rubbish_x")
    assert "没有可查看的此人" in wrong.content.decode()


def test_upload_in_the_page(county: SmallCounty) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    keeper = make_post(county.lead, roles.INDEX_MANAGER)
    browser = signed_in(keeper)
    address = reverse("documents:upload")
    taken = browser.post(address, {"file": SimpleUploadedFile("报告.xml", world.lab())})
    assert taken.status_code == 200
    assert "已登记" in taken.content.decode()
    again = browser.post(address, {"file": SimpleUploadedFile("报告.xml", world.lab())})
    assert "此前已登记" in again.content.decode()
    bad = browser.post(address, {"file": SimpleUploadedFile("x.xml", b"no xml")})
    assert bad.status_code == 422
    assert "不是格式正确的 XML" in bad.content.decode()
    assert browser.post(address, {}).status_code == 400
    foreign = make_post(county.townships[0], roles.INDEX_MANAGER)
    other = signed_in(foreign).post(address, {"file": SimpleUploadedFile("x.xml", world.lab("Z-1"))})
    assert other.status_code == 422
    assert signed_in(county.posts["audit_admin"]).post(address).status_code == 403


# -------------------------------------------------------------------------------------------------------------------- out


def visit_of(client: Client, patient: str) -> str:
    """A visit with a diagnosis and a measurement."""
    encounter = client("POST", "Encounter", {
        "resourceType": "Encounter", "status": "finished", "subject": {"reference": f"Patient/{patient}"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "period": {"start": "2026-03-01T09:00:00+08:00"},
    }).json["id"]  # fmt: skip
    about = {
        "subject": {"reference": f"Patient/{patient}"},
        "encounter": {"reference": f"Encounter/{encounter}"},
    }
    for one in (
        {"resourceType": "Condition", "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10", "display": "原发性高血压"}]}, **about},
        {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
         "effectiveDateTime": "2026-03-01T09:05:00+08:00",
         "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}, **about},
    ):  # fmt: skip
        assert client("POST", one["resourceType"], one).status == 201
    return str(encounter)


def test_a_document_is_composed_registered_and_read_again(county: SmallCounty) -> None:
    send = Sender()
    patient = registered_patient(send.fhir)
    encounter = visit_of(send.fhir, patient)
    headers = {"authorization": f"Bearer {send.fhir.token}"}
    made = send.browser.get(f"/documents/500.2?patient={patient}&encounter={encounter}", headers=headers)
    assert made.status_code == 200, made.content
    document = reading.read(made.content)
    assert document.kind is not None
    assert document.kind.number == "500.2"
    assert document.patient.name == "祁测文"
    row = RegisteredDocument.objects.get()
    assert (row.way, row.version, row.status) == ("out", 1, "current")
    assert send.fhir("GET", f"Binary/{row.binary}", ACCEPT="application/xml").raw == made.content
    conditions = len(found(send.fhir, "Condition"))
    send.browser.get(f"/documents/500.2?patient={patient}&encounter={encounter}", headers=headers)
    assert [(r.version, r.status) for r in RegisteredDocument.objects.order_by("version")] == [
        (1, "superseded"), (2, "current"),
    ]  # fmt: skip
    assert len(found(send.fhir, "Condition")) == conditions
    assert AuditEvent.objects.filter(action="export").count() == 2


def test_what_is_not_issued(county: SmallCounty) -> None:
    send, other = Sender(), Sender("SC-T3", name="t3")
    patient = registered_patient(send.fhir)
    for sender, kind, query, status in (
        (send, "500.2", "", 400), (send, "500.99", f"?patient={patient}", 415), (send, "500.1", f"?patient={patient}", 415),
        (send, "500.2", f"?patient={patient}", 404), (send, "500.2", f"?patient={patient}&encounter=none", 404),
        (other, "500.2", f"?patient={patient}", 404), (send, "500.2", "?patient=nobody", 404),
    ):  # fmt: skip
        headers = {"authorization": f"Bearer {sender.fhir.token}"}
        got = sender.browser.get(f"/documents/{kind}{query}", headers=headers)
        assert got.status_code == status, (kind, query, got.content)
    assert not RegisteredDocument.objects.exists()
    with pytest.raises(Refusal):
        issue.issue(Scope.system("test"), "500.2", patient)


def test_issuing_in_the_page(county: SmallCounty) -> None:
    send = Sender()
    patient = registered_patient(send.fhir)
    visit_of(send.fhir, patient)
    person = Person.objects.unscoped("test").get()
    browser = signed_in(county.posts["clinician"])
    made = browser.post(reverse("documents:make"), {"person": person.number, "kind": "500.2"})
    assert made.status_code == 302, made.content.decode()[:2000]
    assert "门(急)诊病历" in browser.get(made.headers["Location"]).content.decode()
    assert browser.post(reverse("documents:make"), {"person": "1", "kind": "500.2"}).status_code == 422
    scope = scope_for_account(account_of(county.posts["gp2"]))
    with pytest.raises(Refusal):
        issue.issue(scope, "500.2", person.number)
