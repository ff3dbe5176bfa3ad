"""One request: split, opened whole or not at all, not twice; what is recognised is not done again; the wire's orders; the pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from lianxin.access import relationships, tokens
from lianxin.access.errors import NoRelationship, NotPermitted
from lianxin.access.models import Account
from lianxin.access.models import Client as System
from lianxin.clinical.recognition import knowing, search
from lianxin.clinical.recognition.decisions import Choice
from lianxin.clinical.recognition.models import Decision, Result
from lianxin.duty.errors import Refused
from lianxin.exchange.fhir.handlers import Request
from lianxin.exchange.v2 import message, receiving
from lianxin.exchange.v2.models import Peer
from lianxin.index.models import Person
from lianxin.record.problems import Problem
from lianxin.regional.ordering import fhir, finding, places, service
from lianxin.regional.ordering.models import Requisition
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world
from tests.recognition.world import given, passed

FORM = {"indication": "咳嗽两周，查因"}


@pytest.fixture
def county(db: None) -> Iterator[SmallCounty]:
    """The small county, with nothing remembered of another test's."""
    knowing.forget()
    yield world.make_world()
    knowing.forget()


def patient(county: SmallCounty, *institutions: Any) -> int:
    """Somebody these institutions (default: the lead) care for."""
    person = world.make_person()
    for institution in institutions or (county.lead,):
        relationships.grant(person, institution.pk, "registration", "test")
    return person


def test_a_request_is_split_by_centre_and_specimen(county: SmallCounty) -> None:
    person, by = patient(county, county.townships[0]), world.scope_of(county, "gp0")
    codes = ["XR-CHEST", "CT-HEAD", "ECG-12", "LAB-CBC", "LAB-HBA1C", "LAB-GLU"]
    made = service.place(by, person, codes, FORM, "k1")
    pieces = {tuple(sorted(o.item.code for o in w.ordered.select_related("item"))): w for w in made}
    assert set(pieces) == {("XR-CHEST",), ("CT-HEAD",), ("ECG-12",), ("LAB-CBC", "LAB-HBA1C"), ("LAB-GLU",)}
    assert pieces["XR-CHEST",].performer_id == county.townships[0].pk
    assert pieces["CT-HEAD",].performer_id == county.lead.pk  # nobody is known to have one: the lead
    assert {w.centre_of_id for w in made} == {county.lead.pk}
    assert len({w.requisition for w in made}) == 1
    again = service.request(by, person, codes, FORM, "k1")
    assert again.replayed
    assert [w.pk for w in again.readings] == sorted(w.pk for w in made)


@pytest.mark.parametrize("bad", [{"codes": []}, {"codes": ["NO"]}, {"codes": ["X"] * 2 + [f"C{n}" for n in range(40)]},
                                 {"form": {"indication": ""}}, {"priority": "soon"}])  # fmt: skip
def test_what_cannot_be_ordered_opens_nothing(county: SmallCounty, bad: dict[str, Any]) -> None:
    person, by = patient(county), world.scope_of(county, "clinician")
    with pytest.raises(Refused):
        service.place(
            by,
            person,
            bad.get("codes", ["XR-CHEST"]),
            bad.get("form", FORM),
            "k",
            priority=bad.get("priority", "routine"),
        )
    assert not Reading.objects.unscoped("test").exists()
    assert not Requisition.objects.unscoped("test").exists()


def test_only_who_cares_for_somebody_orders(county: SmallCounty) -> None:
    with pytest.raises(NoRelationship):
        service.place(world.scope_of(county, "clinician"), world.make_person(), ["XR-CHEST"], FORM, "k")
    with pytest.raises(NotPermitted):
        service.place(world.scope_of(county, "technician0"), patient(county), ["XR-CHEST"], FORM, "k")


def test_the_same_under_way_is_asked_about_first(county: SmallCounty) -> None:
    person, by = patient(county), world.scope_of(county, "clinician")
    service.place(by, person, ["XR-CHEST"], FORM, "a")
    with pytest.raises(Refused) as refused:
        service.place(by, person, ["XR-CHEST", "LAB-CBC"], FORM, "b")
    assert set(refused.value.errors) == {"repeat"}
    assert len(service.place(by, person, ["XR-CHEST", "LAB-CBC"], FORM, "c", repeat=True)) == 2


def test_what_is_recognised_is_not_done_again(county: SmallCounty) -> None:
    person, by = patient(county), world.scope_of(county, "clinician")
    passed(county.townships[0], "XR-CHEST")
    row = given(person, "XR-CHEST", county.townships[0])
    with pytest.raises(Refused) as refused:
        service.place(by, person, ["XR-CHEST", "LAB-CBC"], FORM, "k")
    assert set(refused.value.errors) == {f"hit-{row.pk}"}
    done = service.request(by, person, ["XR-CHEST", "LAB-CBC"], FORM, "k", decisions={row.pk: Choice(True)})
    assert [w.centre for w in done.readings] == ["laboratory"]
    assert done.requisition.recognised == ["XR-CHEST"]
    decision = Decision.objects.unscoped("test").get(order=done.requisition.number)
    assert (decision.verdict, decision.price_fen, decision.door) == ("recognised", 8000, "page")
    repeated = service.request(by, person, ["XR-CHEST"], FORM, "m", decisions={row.pk: Choice(False, "01")})
    refusal = Decision.objects.unscoped("test").get(order=repeated.requisition.number)
    assert refusal.number == repeated.readings[0].case.number
    assert "目前病情" in refusal.explanation


def test_an_emergency_is_never_held_up(county: SmallCounty) -> None:
    person, by = patient(county), world.scope_of(county, "clinician")
    passed(county.townships[0], "XR-CHEST")
    given(person, "XR-CHEST", county.townships[0])
    done = service.request(by, person, ["XR-CHEST"], FORM, "k", priority="emergency")
    assert Decision.objects.unscoped("test").get(order=done.requisition.number).reason == "04"


def test_an_issued_report_becomes_recognisable_and_an_amendment_changes_it(county: SmallCounty) -> None:
    from lianxin.regional.reading import service as reading

    person = patient(county, county.townships[0], county.lead)
    passed(county.townships[0], "XR-CHEST")
    (work,) = service.place(world.scope_of(county, "gp0"), person, ["XR-CHEST"], FORM, "k")
    assert reading.arrived(work.accession)
    scope, _ = world.reader_of(county, "reader0")
    got = reading.claim(scope, "imaging")
    assert got
    world.write(scope, got[1], work)
    reading.act(scope, work.case.number, "sign", {}, None, "s")
    (hit,) = search.find(person, ["XR-CHEST"], county.lead.pk)
    assert (hit.institution_id, hit.must, hit.ref) == (
        county.townships[0].pk,
        True,
        f"DiagnosticReport/{work.case.number}",
    )
    assert Result.objects.unscoped("test").count() == 1


def test_items_are_found_by_what_people_type(county: SmallCounty) -> None:
    assert finding.find("xbct")[0].code == "CT-CHEST"
    assert finding.find("血常规")[0].code == "LAB-CBC"
    assert finding.find("LAB-GLU")[0].code == "LAB-GLU"
    assert finding.find("没有这种东西") == []
    by = world.scope_of(county, "clinician")
    service.place(by, patient(county), ["LAB-URINE"], FORM, "k")
    assert [i.code for i in finding.favourites(by)] == ["LAB-URINE"]
    able = places.candidates(county.villages[0], list(Item.objects.filter(code__in=["ECG-12", "XR-CHEST"])))
    assert next(i.pk for i in able["ECG-12"]) == county.villages[0].pk
    assert next(i.pk for i in able["XR-CHEST"]) == county.townships[0].pk


# ----------------------------------------------------------------------------------------------------------------- the wire


def client_scope(county: SmallCounty, name: str = "HIS") -> Any:
    """The scope of the lead hospital's own system."""
    from lianxin.access.scope import scope_for_client

    made = System.objects.filter(name=name).first()
    if made is None:
        tokens.issue(name, "system/*.cruds", county.lead.code)
        made = System.objects.get(name=name)
    return scope_for_client(made.pk, name, county.lead.pk, ("system/*.cruds",))


def ask(resource: dict[str, Any] | None, **more: Any) -> Request:
    """A call of the operation."""
    return Request("POST", "ServiceRequest", more.get("id"), "order", more.get("params", []), {}, resource)


def wanted(person: int, code: str = "XR-CHEST", **more: Any) -> dict[str, Any]:
    """A ServiceRequest."""
    number = Person.objects.unscoped("test").get(pk=person).number
    return {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": {"reference": f"Patient/{number}"},
        "code": {"coding": [{"system": "http://lianxin.example/cs/order-item", "code": code}]}, "identifier": [{"value": "HIS-1"}],
        "reasonCode": [{"text": "咳嗽待查"}], **more,
    }  # fmt: skip


def test_a_hospitals_system_orders_over_fhir(county: SmallCounty) -> None:
    person, scope = patient(county), client_scope(county)
    passed(county.townships[0], "XR-CHEST")
    row = given(person, "XR-CHEST", county.townships[0])
    with pytest.raises(Problem) as refused:
        fhir.order(scope, ask(wanted(person)))
    assert refused.value.status == 422
    reason = {"coding": [{"system": fhir.REASON, "code": "03"}]}
    answer = fhir.order(scope, ask(wanted(person, reasonCode=[{"text": "咳嗽待查"}, reason])))
    assert answer.status == 201
    made = Requisition.objects.unscoped("test").get()
    assert (made.placer, made.source, made.diagnosis) == ("HIS-1", "fhir", "咳嗽待查")
    assert Decision.objects.unscoped("test").get(result=row).reason == "03"
    assert fhir.order(scope, ask(wanted(person, reasonCode=[reason]))).status == 200
    (work,) = service.pieces(made)
    assert fhir.cancel(scope, ask(None, id=work.case.number, params=[("reason", "开错了")])).status == 200


@pytest.mark.parametrize("change", [{"code": {"coding": [{"system": "urn:x", "code": "1"}]}}, {"subject": {"reference": "Patient/none"}},
                                    {"code": {"coding": "x"}}, {"code": []}, {"performer": [{"reference": "Organization/none"}]}])  # fmt: skip
def test_a_bad_order_is_refused_in_words(county: SmallCounty, change: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        fhir.order(client_scope(county), ask(wanted(patient(county), **change)))
    assert refused.value.status == 422
    assert refused.value.issues[0].text.zh
    assert not Reading.objects.unscoped("test").exists()


def v2(
    control: str, code: str = "LAB-CBC", system: str = "99LX", number: str = "P-1", orc: str = "NW"
) -> message.Message:
    """An order message from the hospital and its answer."""
    text = (
        f"MSH|^~\\&|HIS|F|LIANXIN|LX|20260302090000||OML^O21^OML_O21|{control}|P|2.5\rPID|1||A1^^^HISA&2.999.1&ISO^MR||欧阳明月||19690517|F\r"
        f"ORC|{orc}|{number}\rOBR|1|{number}||{code}^^{system}\rNTE|1||乏力待查\r"
    )
    return message.parse(receiving.receive(text.encode()))


def test_a_hospitals_system_orders_and_cancels_by_v2(county: SmallCounty) -> None:
    tokens.issue("HIS", "system/*.cruds", county.lead.code)
    Peer.objects.create(
        name="HIS", application="HIS", facility="F", client=System.objects.get(name="HIS"), default_system="urn:oid:2.999.7", created_at=clock.now()
    )  # fmt: skip
    answer = v2("M1")
    assert (answer.text("MSA", 1), answer.text("ORC", 1)) == ("AA", "OK")
    number = answer.text("OBR", 3)
    assert Reading.objects.unscoped("test").get(case__number=number).centre == "laboratory"
    assert v2("M2").text("OBR", 3) == number  # the same order number again
    assert v2("M3", code="NO-SUCH", number="P-2").text("MSA", 1) == "AE"
    assert v2("M4", number="P-9", orc="CA").text("MSA", 1) == "AE"
    assert v2("M5", orc="CA").text("ORC", 1) == "CR"
    assert Reading.objects.unscoped("test").get(case__number=number).case.state == "cancelled"
    assert (
        v2("M6", code="58410-2", system="LN", number="P-3").text("MSA", 1) == "AA"
    )  # somebody else's work: only the record's
    assert Reading.objects.unscoped("test").count() == 1


# -------------------------------------------------------------------------------------------------------------------- pages


def signed_in(scope: Any) -> Client:
    """A browser of that account."""
    client = Client()
    client.force_login(Account.objects.get(pk=scope.account_id))
    return client


def test_the_pages_from_the_choice_to_the_paper(county: SmallCounty) -> None:
    person, scope = patient(county), world.scope_of(county, "clinician")
    number = Person.objects.unscoped("test").get(pk=person).number
    passed(county.townships[0], "XR-CHEST")
    row = given(person, "XR-CHEST", county.townships[0])
    client, address = signed_in(scope), f"/orders/new?person={number}"
    part = client.post(address, {"_add": "XR-CHEST"}, headers={"HX-Request": "true"}).content.decode()
    assert f'name="hit-{row.pk}"' in part
    assert "HR</span>" in part
    assert "<html" not in part
    refused = client.post(address, {"item": ["XR-CHEST"], "indication": "x", "_send": "1", "_key": "p1"})
    assert refused.status_code == 422
    assert "应予互认" in refused.content.decode()
    for bad in (
        {"item": ["<script>"]},
        {"_add": "x" * 5000},
        {"item": ["XR-CHEST"], "at-XR-CHEST": "9" * 40, "hit-abc": "use"},
    ):
        assert client.post(address, bad | {"q": "%'"}).status_code == 200
    sent = {
        "item": ["XR-CHEST", "LAB-CBC"],
        "indication": "x",
        "_send": "1",
        "_key": "p2",
        f"hit-{row.pk}": "repeat",
        f"why-{row.pk}": "01",
    }
    first, second = client.post(address, sent), client.post(address, sent)
    assert first.status_code == second.status_code == 302
    assert first.url == second.url
    shown = client.get(first.url).content.decode()
    assert "打印告知" in shown
    decision = Decision.objects.unscoped("test").get()
    assert client.get(f"/recognition/decisions/{decision.pk}").status_code == 200
    works = service.pieces(Requisition.objects.unscoped("test").get())
    for path in ("/orders?tab=open", "/orders?tab=requests", f"/orders/{works[0].case.number}", f"/orders/person/{number}", "/recognition",
                 "/recognition/decisions", "/recognition/groups", "/recognition/groups/XR-CHEST", "/recognition/rules", "/recognition/quality"):  # fmt: skip
        assert client.get(path).status_code == 200, path
    assert client.get("/recognition/decisions?format=csv&days=30").content.decode().count("\n") == 2
    assert client.get(f"/orders/{works[0].case.number}/print.pdf").status_code == 404
    act = f"/orders/{works[0].case.number}/cancel"
    assert client.post(act, {"reason": ""}).status_code == 422
    assert client.post(act, {"reason": "患者离院"}).status_code == 302
    assert client.post(act, {"reason": "再来"}).status_code == 409
    assert client.post(f"/orders/{works[0].case.number}/order", {}).status_code == 404
    stranger = signed_in(world.scope_of(county, "gp2"))
    assert stranger.get(f"/orders/{works[0].case.number}").status_code == 404
    assert stranger.get(first.url).status_code in (403, 404)
    assert stranger.get(f"/recognition/decisions/{decision.pk}").status_code == 404
    assert stranger.get(address).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_place_one_request() -> None:
    from lianxin.clinical.recognition import shipped
    from lianxin.regional.reading import items

    shipped.load()
    items.load_shipped()
    knowing.forget()
    county = world.make_world()
    person, by = patient(county), world.scope_of(county, "clinician")
    numbers: list[str] = []
    gate = threading.Barrier(4)

    def click() -> None:
        gate.wait()
        try:
            numbers.append(service.request(by, person, ["ECG-12"], FORM, "same").requisition.number)
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 4
    assert len(set(numbers)) == 1
    assert Reading.objects.unscoped("test").count() == 1
    knowing.forget()
