"""Mappings laid over the built-in ones: the language and its faults, versions, and the pages."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.test import Client as Browser

from lianxin.access import tokens
from lianxin.access.errors import Invalid
from lianxin.access.models import AuditEvent, Client
from lianxin.access.scope import Scope
from lianxin.exchange.v2 import message
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.mapping import find, forms, reading, samples, sheets, shelf, stored, trying
from lianxin.exchange.v2.mapping.models import ACTIVE, DRAFT, RETIRED, MappingSample, MappingVersion
from lianxin.exchange.v2.mapping.reading import Faulty
from lianxin.exchange.v2.models import Peer
from lianxin.network import roles
from lianxin.standards import clock
from tests.exchange import smart_world as w
from tests.exchange.v2_mapping_world import HEAD, mapped, of, oru
from tests.factories import make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db

SCOPE = Scope.system("tests")
CODES = "tables:\n  tests:\n    X: http://loinc.org|2345-7|葡萄糖\n"


@pytest.fixture(autouse=True)
def _fresh():
    shelf.forget()
    yield
    shelf.forget()


@pytest.fixture
def peer():
    tokens.issue("lis", "system/*.cruds", make_institution("V2-M", "township").code)
    return Peer.objects.create(
        name="LIS M",
        application="LIS",
        facility="V2-M",
        client=Client.objects.get(name="lis"),
        created_at=clock.now(),
    )


def signed(role: str, institution=None) -> Browser:
    return w.signed_in(worlds.account_for(make_post(institution or make_institution("", "hospital"), role)))


# -- laid over ---------------------------------------------------------------------------------------------------------


def test_codes_fields_settings_and_elements_of_a_sender():
    over = (
        CODES
        + "  units:\n    GLORKS: mg/dL\n"
        + "moved:\n  OBR-3: ORC-3 | OBR-3\n  OBX-14: OBX-19\n"
        + "settings:\n  zone: '+0100'\n"
        + "resources:\n  Observation:\n    set:\n      method: null\n      issued: instant(MSH-7)\n"
    )
    text = oru(
        "OBX|1|NM|X^Gluc^L||5|glorks|||||F||||||METH||20260310070000",
        obr="ORC|RE||F77\nOBR|1|P1||T^Test|||20260310||||||||||||||||||F",
    )
    out = mapped(text, over)
    made = of(out, "Observation")[0]
    assert made["code"]["coding"][0] == {"system": "http://loinc.org", "code": "2345-7", "display": "葡萄糖"}
    assert made["valueQuantity"]["code"] == "mg/dL"
    assert made["effectiveDateTime"] == "2026-03-10T07:00:00+01:00"
    assert made["issued"] == "2026-03-10T10:15:00+01:00"
    assert "method" not in made
    assert of(out, "DiagnosticReport")[0]["identifier"][1]["value"] == "F77"


def test_a_resource_can_be_taken_away_and_one_be_added():
    over = (
        "resources:\n  AllergyIntolerance: null\n  Flag:\n    when: PV1-16\n    id: ['patient, PV1-16']\n    set:\n"
        "      status: active\n      code!: {text: text(PV1-16)}\n      subject: patient()\n"
    )
    out = mapped(HEAD.format(kind="ADT^A01") + "PV1|1|I|W1|||||||||||||VIP|||V1\nAL1|1|DA|^Penicillin", over)
    assert sorted(r["resourceType"] for r in out.resources) == ["Encounter", "Flag"]


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        ("tables:\n  units:\n    X: glorks\n", 3, "UCUM"),
        ("resources:\n  Observation:\n    set:\n      colour: red\n", 4, "colour"),
        ("resources:\n  Observation:\n    set:\n      issued: instant(\n", 4, "cannot be read"),
        ("resources:\n  Observation:\n    set:\n      issued: wobble(OBX-3)\n", 4, "wobble"),
        ("resources:\n  Observation:\n    set:\n      status: table(OBX-11, nosuch)\n", 4, "nosuch"),
        (
            "resources:\n  Observation:\n    set:\n      issued: time()\n      code: concept()\n",
            5,
            "argument",
        ),
        ("resources:\n  Observation:\n    set:\n      issued: made()\n", 4, "do not fit"),
        ("resources:\n  Observation:\n    set:\n      issued: lines(x)\n", 4, "do not fit"),
        ("resources:\n  Observation:\n    when: OBX-11 in F\n", 3, "cannot be read"),
        ("resources:\n  Wobble:\n    set: {}\n", 2, "Wobble"),
        ("resources:\n  Observation:\n    manner: sometimes\n", 3, "manner"),
        ("resources:\n  Observation:\n    wobble: 1\n", 3, "wobble"),
        ("resources:\n  Observation:\n    each: nosuch\n", 3, "nosuch"),
        ("moved:\n  OBR: ORC-3\n  XYZ-abc: ORC-3\n", 3, "XYZ-abc"),
        ("settings:\n  zone: Mars/Olympus\n", 0, "Mars/Olympus"),
        ("settings:\n  patient_number: PID-99\n", 2, "PID-2"),
        ("wobble: 1\n", 1, "wobble"),
        ("tables:\n  sex: [1, 2]\n", 2, "code: target"),
        ("a: 1\na: 2\n", 2, "twice"),
        ("a: &x [1]\nb: *x\n", 1, "Anchors"),
        ("a: [1\n", 2, "YAML"),
        ("- 1\n", 1, "outermost"),
        ("settings: 7\n", 1, "key: value"),
        ("resources:\n  Observation: 7\n", 2, "key: value"),
    ],
)
def test_faults_name_line_and_key(body, line, words):
    faults = stored.faults_of("ORU", None, body)
    assert any(words in f.text.en and (not line or f.line == line) for f in faults), faults


def test_a_text_that_is_right_has_no_faults_and_a_huge_one_is_none():
    assert stored.faults_of("ORU", None, CODES) == []
    assert stored.faults_of("ADT", None, "") == []
    assert stored.faults_of("ORU", None, "a: " + "x" * 300_000)[0].text.en == "The mapping is too long."


def test_conditions_and_alternatives():
    over = (
        "resources:\n  Observation:\n    when: (OBX-3.1 = X or OBX-3.1 = Y) and not OBX-11 in (D) and OBX-5 != '9'\n    set:\n"
        '      method: {choose: [{when: OBX-3.1 = Y, use: {text: "\'why\'"}}, {use: {text: "join(OBX-3.1, OBX-3.2)"}}]}\n'
    )
    out = mapped(
        oru(
            "OBX|1|NM|X^A||5||||||F",
            "OBX|2|NM|Y^B||6||||||F",
            "OBX|3|NM|Z||7||||||F",
            "OBX|4|NM|X||8||||||D",
            "OBX|5|NM|X||9||||||F",
        ),
        over,
    )
    assert [o["method"]["text"] for o in of(out, "Observation")] == ["X A", "why"]


# -- versions ----------------------------------------------------------------------------------------------------------


def test_from_draft_over_active_to_retired_and_back(peer):
    asked = message.parse(samples.encoded(oru("OBX|1|NM|X^X||5||||||F")))
    assert find(asked, peer.pk).version == "ORU@1"
    draft = stored.save(SCOPE, "ORU", peer.pk, CODES, "codes of this laboratory")
    assert (draft.version, draft.state) == (1, DRAFT)
    shelf.forget()
    assert find(asked, peer.pk).version == "ORU@1"  # a draft changes nothing
    stored.activate(SCOPE, draft.pk)
    assert find(asked, peer.pk).version == "ORU@1+s1"
    assert find(asked, None).version == "ORU@1"
    assert find(asked, peer.pk + 1).version == "ORU@1"
    stored.activate(
        SCOPE, stored.save(SCOPE, "ORU", None, "settings:\n  result_status: final\n", "everybody").pk
    )
    assert find(asked, peer.pk).version == "ORU@1+a1+s1"
    second = stored.save(SCOPE, "ORU", peer.pk, "", "the laboratory has changed")
    assert (second.version, second.based_on_id) == (2, draft.pk)
    stored.activate(SCOPE, second.pk)
    assert list(stored.versions("ORU", peer.pk).values_list("version", "state")) == [
        (2, ACTIVE),
        (1, RETIRED),
    ]
    third = stored.go_back(SCOPE, draft.pk)
    assert (third.version, third.body, third.based_on_id) == (3, CODES, draft.pk)
    with pytest.raises(Invalid):
        stored.go_back(SCOPE, draft.pk)  # there is a draft
    stored.retire(SCOPE, third.pk)
    stored.retire(SCOPE, second.pk)
    assert find(asked, peer.pk).version == "ORU@1+a1"
    with pytest.raises(Invalid):
        stored.retire(SCOPE, second.pk)
    told = AuditEvent.objects.filter(what__startswith="HL7 v2 mapping ORU version").count()
    assert told == 9


def test_a_faulty_or_failing_draft_is_not_activated(peer):
    faulty = stored.save(SCOPE, "ORU", peer.pk, "wobble: 1", "try")
    with pytest.raises(Invalid):
        stored.activate(SCOPE, faulty.pk)
    failing = stored.save(
        SCOPE, "ORU", peer.pk, "resources:\n  Observation:\n    set:\n      status: wrong\n", "try"
    )
    with pytest.raises(Invalid) as invalid:
        stored.activate(SCOPE, failing.pk)
    assert "does not pass" in invalid.value.message.en
    assert stored.active("ORU", peer.pk) is None


def test_somebody_else_was_faster(peer):
    stored.save(SCOPE, "ORU", peer.pk, CODES, "first", seen=0 or None)
    stored.activate(SCOPE, stored.draft("ORU", peer.pk).pk)
    stored.save(SCOPE, "ORU", peer.pk, "", "second", seen=1)
    with pytest.raises(Invalid):
        stored.save(SCOPE, "ORU", peer.pk, CODES, "third", seen=1)
    with pytest.raises(Invalid):
        stored.save(SCOPE, "ORU", peer.pk, CODES, " ")
    with pytest.raises(Invalid):
        stored.save(SCOPE, "NONE", peer.pk, CODES, "why")


def test_the_database_lets_one_be_active_and_one_be_drafted():
    now = clock.now()
    values = {"kind": "ORU", "body": "", "made_at": now, "changed_at": now}
    MappingVersion.objects.create(version=1, state=ACTIVE, **values)
    MappingVersion.objects.create(version=2, state=DRAFT, **values)
    for version, state in ((3, ACTIVE), (4, DRAFT), (2, RETIRED), (0, RETIRED), (5, "other")):
        with pytest.raises(IntegrityError), transaction.atomic():
            MappingVersion.objects.create(version=version, state=state, **values)


def test_a_stored_mapping_that_cannot_be_used_any_more_refuses_its_messages():
    MappingVersion.objects.create(
        kind="ORU",
        version=1,
        state=ACTIVE,
        body="wobble: 1",
        made_at=clock.now(),
        changed_at=clock.now(),
        activated_at=clock.now(),
    )
    shelf.forget()
    with pytest.raises(Refused) as refused:
        find(message.parse(samples.encoded(oru("OBX|1|NM|X||5"))))
    assert (refused.value.answer, refused.value.code) == ("AE", "207")


def test_messages_nobody_maps_are_refused_by_type_or_event():
    for kind, code in (("XYZ^Z01", "200"), ("ORU^Z99", "201")):
        with pytest.raises(Refused) as refused:
            find(message.parse(samples.encoded(HEAD.format(kind=kind))))
        assert (refused.value.answer, refused.value.code) == ("AR", code)


def test_own_samples_decide_for_a_sender(peer):
    moved = "moved:\n  OBX-3: OBX-4\n  OBR-4: OBR-13\n"  # no other laboratory does it so: the shipped samples would fail
    draft = stored.save(SCOPE, "ORU", peer.pk, moved, "odd laboratory")
    with pytest.raises(Invalid):
        stored.activate(SCOPE, draft.pk)
    text = oru("OBX|1|NM||X^Glucose|5||||||F", obr="OBR|1|P1|F1||||20260310||||||T^Test||||||||||||F")
    stored.add_sample(SCOPE, "ORU", peer.pk, "own", text)
    assert stored.activate(SCOPE, draft.pk).state == ACTIVE
    row = MappingSample.objects.get()
    assert b"Glucose" not in bytes(row.body)
    stored.drop_sample(SCOPE, "ORU", None, row.pk)
    assert MappingSample.objects.count() == 1
    stored.drop_sample(SCOPE, "ORU", peer.pk, row.pk)
    assert not MappingSample.objects.exists()
    with pytest.raises(Invalid):
        stored.add_sample(SCOPE, "ADT", peer.pk, "wrong kind", text)
    with pytest.raises(Invalid):
        stored.add_sample(SCOPE, "ORU", peer.pk, "", "no message")


def test_a_trial_shows_what_changes_and_where_a_message_fails():
    trial = trying.run("ORU", samples.encoded(oru("OBX|1|NM|X^X||5||||||F")), [("d", CODES)], [])
    assert trial.passed
    assert (
        "Observation[0].code.coding[0].system",
        "urn:lianxin:codes:example:tests",
        "http://loinc.org",
    ) in trial.changes
    refused = trying.run("ORU", samples.encoded(oru("OBX|1|NM|||5", obr="OBR|1|P|F")), [])
    assert (refused.passed, refused.place) == (False, "OBX-3")
    assert not trying.run("ADT", samples.encoded(oru("OBX|1|NM|X||5")), []).passed
    assert not trying.run("ORU", b"no message", []).passed
    assert trying.run("ORU", samples.encoded(oru("OBX|1|NM|X||5")), [("d", "wobble: 1")]).faults


# -- forms -------------------------------------------------------------------------------------------------------------


def test_lines_entered_by_the_form():
    body = forms.changed(
        "", "code", {"table": "tests", "left": "X", "right": "http://loinc.org|2345-7|葡萄糖"}
    )
    assert reading.read(body).data == {"tables": {"tests": {"X": "http://loinc.org|2345-7|葡萄糖"}}}
    body = forms.changed(body, "moved", {"left": "obr-3", "right": "orc-3|obr-3"})
    body = forms.changed(body, "setting", {"left": "zone", "right": "+0800"})
    assert stored.faults_of("ORU", None, body) == []
    found = forms.outline(body)
    assert found["moved"] == [("OBR-3", "ORC-3 | OBR-3")]
    assert found["codes"][0][2:] == ("X", "http://loinc.org|2345-7|葡萄糖")
    for what, left, table in (("code", "X", "tests"), ("moved", "OBR-3", ""), ("setting", "zone", "")):
        body = forms.changed(body, what, {"left": left, "right": "", "table": table})
    assert reading.read(body).data == {}
    for what, asked in (
        ("code", {"left": ""}), ("code", {"left": "x", "table": "nosuch"}), ("moved", {"left": "x", "right": "y"}),
        ("moved", {"left": "OBR-3", "right": "y"}), ("setting", {"left": "x", "right": "1"}), ("what", {"left": "x"}),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            forms.changed("", what, asked)
    with pytest.raises(Invalid):
        forms.changed("a: [", "code", {"left": "x", "right": "y", "table": "tests"})


# -- pages -------------------------------------------------------------------------------------------------------------


def test_the_pages_from_a_code_to_an_active_version(peer):
    admin = signed(roles.SYSTEM_ADMIN)
    assert "检验检查结果" in admin.get("/feeds/mappings").content.decode()
    here = f"/feeds/mappings/ORU/sender/{peer.pk}"
    chosen = admin.get("/feeds/mappings/choose", {"kind": "ORU", "peer": peer.pk})
    assert chosen["Location"] == here
    assert admin.get(here).status_code == 200
    assert admin.get(f"{here}/edit").status_code == 200
    done = admin.post(
        f"{here}/change",
        {"what": "code", "table": "tests", "left": "X", "right": "http://loinc.org|2345-7|葡萄糖"},
    )
    assert done["Location"] == here
    assert "2345-7" in admin.get(here).content.decode()
    wrong = admin.post(
        f"{here}/edit",
        {"body": "tables:\n  units:\n    X: glorks\n", "why": "try", "do": "save", "seen": "1"},
    )
    assert wrong.status_code == 422
    assert "第" in wrong.content.decode()
    assert (
        admin.post(f"{here}/edit", {"body": CODES, "why": "", "do": "save", "seen": "1"}).status_code == 422
    )
    assert (
        admin.post(f"{here}/edit", {"body": CODES, "why": "", "do": "check", "seen": "1"}).status_code == 200
    )
    assert (
        admin.post(f"{here}/edit", {"body": CODES, "why": "代码", "do": "save", "seen": "1"}).status_code
        == 302
    )
    tried = admin.get(f"{here}/try", {"sample": "lis-chinese"}).content.decode()
    assert "通过" in tried
    pasted = admin.post(f"{here}/try", {"text": oru("OBX|1|NM|X^X||5||||||F")}).content.decode()
    assert "葡萄糖" in pasted
    admin.post(f"{here}/sample", {"name": "mine", "text": oru("OBX|1|NM|X^X||5||||||F")})
    own = MappingSample.objects.get()
    assert "葡萄糖" in admin.get(f"{here}/try", {"sample": f"own:{own.pk}"}).content.decode()
    assert AuditEvent.objects.filter(detail__contains="opened").exists()
    admin.post(f"{here}/act", {"version": "1", "what": "activate"})
    assert stored.active("ORU", peer.pk).version == 1
    assert "2345-7" in admin.get(f"{here}/versions/1").content.decode()
    admin.post(f"{here}/act", {"version": "1", "what": "retire"})
    admin.post(f"{here}/act", {"version": "1", "what": "back"})
    assert stored.draft("ORU", peer.pk).version == 2
    assert "UMOLL" in admin.get("/feeds/mappings/tables/units").content.decode()
    for gone in (
        f"{here}/versions/99",
        "/feeds/mappings/NONE",
        "/feeds/mappings/ORU/sender/999999",
        "/feeds/mappings/tables/none",
    ):
        assert admin.get(gone).status_code == 404
    assert admin.post(f"{here}/act", {"version": "2", "what": "wobble"}).status_code == 404
    assert admin.post(f"{here}/act", {"version": "x", "what": "retire"}).status_code == 404


def test_who_may_look_and_who_may_change(peer):
    here = f"/feeds/mappings/ORU/sender/{peer.pk}"
    assert signed(roles.GP).get("/feeds/mappings").status_code == 403
    manager = signed(roles.MANAGER)
    assert manager.get("/feeds/mappings").status_code == 200
    assert manager.get("/feeds/mappings/ORU/edit").status_code == 403
    assert manager.post("/feeds/mappings/ORU/act", {"version": "1", "what": "retire"}).status_code == 403
    stranger = signed(roles.INDEX_MANAGER, make_institution("OTHER", "hospital"))
    assert stranger.get(here).status_code == 404  # another institution's sender
    assert "LIS M" not in stranger.get("/feeds/mappings").content.decode()
    assert stranger.get("/feeds/mappings/ORU/edit").status_code == 403  # oversees nobody
    own = signed(roles.INDEX_MANAGER, peer.client.institution)
    assert own.get(f"{here}/edit").status_code == 200
    MappingSample.objects.create(kind="ORU", peer=peer, name="secret sample", body=b"", made_at=clock.now())
    assert "secret sample" not in signed(roles.MANAGER, peer.client.institution).get(here).content.decode()


def test_what_holds_for_everybody_is_read_by_a_sheet_of_faults():
    with pytest.raises(Faulty):
        sheets.laid(sheets.built_in()["ORU"], reading.read("name: X"))
