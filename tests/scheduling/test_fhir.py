"""Finding, holding, booking, moving and cancelling over FHIR, and Slots that tell the truth."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access.scope import Scope
from lianxin.pool import booking as pool
from lianxin.pool.models import Place, Session
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.resident.scheduling import projecting
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.referral.world import START, World

from .world import SCOPES, appointment, of, parameters, people, ref, session, township


def _slot(client: Client, one: Session) -> str:
    return client("GET", f"Slot/slot-{one.pk}").json["status"]


def test_find_hold_book_move_cancel(committed: World) -> None:
    world = committed
    patient = ref("Patient", world.person.number)
    with clock.at(START):
        client = township(world)
        first, second = session(world, 2), session(world, 1, days=3)
        session(world, 3, days=4, department=world.county.departments["internal"])
        projecting.run()
        found = client(
            "POST", "Appointment/$find", parameters(start=START.date(), end="2026-03-31", specialty="04")
        )
        assert found.status == 200
        assert [a["id"] for a in of(found)] == [f"offer-{first.pk}", f"offer-{second.pk}"]
        assert {s["status"] for s in of(found, "Slot")} == {"free"}
        numbers = client("GET", "Appointment/$find?start=2026-03-02&specialty=04&per-number=true")
        assert [a["id"] for a in of(numbers)] == [
            f"offer-{first.pk}-1",
            f"offer-{first.pk}-2",
            f"offer-{second.pk}-1",
        ]
        assert [a["start"][11:16] for a in of(numbers)] == ["08:00", "10:00", "08:00"]

        ask = parameters(
            appointment_reference=ref("Appointment", f"offer-{second.pk}"), patient_reference=patient
        )
        held = client("POST", "Appointment/$hold", ask, idempotency_key="h1")
        assert held.status == 200, held.raw
        number = appointment(held)["id"]
        assert appointment(held)["status"] == "pending"
        assert _slot(client, second) == "busy-tentative"
        assert appointment(client("POST", "Appointment/$hold", ask, idempotency_key="h1"))["id"] == number
        assert of(client("GET", "Slot?status=free&_count=50")) == []
        assert {s["id"] for s in of(client("GET", "Slot?status=free&_count=50"), "Slot")} >= {
            f"slot-{first.pk}"
        }

        take = parameters(appointment_reference=ref("Appointment", number))
        booked = client("POST", "Appointment/$book", take)
        assert booked.status == 201, booked.raw
        assert appointment(booked)["id"] == number
        assert appointment(booked)["status"] == "booked"
        assert client("POST", "Appointment/$book", take).status in (200, 201)
        assert Appointment.objects.unscoped("test").count() == 1
        assert _slot(client, second) == "busy"

        moved = client(
            "POST",
            f"Appointment/{number}/$reschedule",
            parameters(slot=ref("Slot", f"slot-{first.pk}"), number=2),
        )
        assert moved.status == 200, moved.raw
        now = appointment(moved)
        assert now["slot"] == [ref("Slot", f"slot-{first.pk}")]
        assert client("GET", f"Appointment/{number}").json["status"] == "cancelled"
        assert _slot(client, second) == "free"

        gone = client("POST", f"Appointment/{now['id']}/$cancel", parameters(reason="改主意"))
        assert gone.status == 200
        assert appointment(gone)["status"] == "cancelled"
        assert client("POST", f"Appointment/{now['id']}/$cancel").status == 200
        assert pool.recount() == []


def test_an_expired_hold_counts_as_free(committed: World) -> None:
    world = committed
    patient = ref("Patient", world.person.number)
    with clock.at(START):
        client = township(world)
        one = session(world, 1)
        projecting.run()
        held = client(
            "POST", "Appointment/$hold", parameters(slot=ref("Slot", f"slot-{one.pk}"), patient=patient)
        )
        number = appointment(held)["id"]
        assert _slot(client, one) == "busy-tentative"
    with clock.at(START + dt.timedelta(minutes=16)):
        assert [s["id"] for s in of(client("GET", "Slot?status=free"), "Slot")] == [f"slot-{one.pk}"]
        assert client("GET", f"Appointment/{number}").json["status"] == "cancelled"
        late = client(
            "POST", "Appointment/$book", parameters(appointment_reference=ref("Appointment", number))
        )
        assert late.status == 201, "the number is still free, so it is booked"
        assert Place.objects.unscoped("test").filter(session=one).exclude(state="cancelled").count() == 1


def test_a_full_session_answers_with_others(committed: World) -> None:
    world = committed
    with clock.at(START):
        client = township(world)
        other = people(world, 1)[0]
        full, free = session(world, 1), session(world, 3, days=3)
        body = {
            "resourceType": "Appointment", "status": "pending", "slot": [ref("Slot", f"slot-{full.pk}")],
            "start": "2026-03-04T08:00:00+08:00", "end": "2026-03-04T12:00:00+08:00",
            "identifier": [{"system": "urn:x", "value": "A-1"}],
            "participant": [{"actor": ref("Patient", other.number), "status": "accepted"}],
        }  # fmt: skip
        made = client("POST", "Appointment/$book", parameters(appointment_resource=body))
        assert made.status == 201, made.raw
        again = client("POST", "Appointment/$book", body)
        assert appointment(again)["id"] == appointment(made)["id"], "its own identifier makes it one booking"
        mine = {
            **body,
            "identifier": [],
            "participant": [{"actor": ref("Patient", world.person.number), "status": "accepted"}],
        }
        refused = client("POST", "Appointment/$book", {k: v for k, v in mine.items() if v})
        assert refused.status == 409
        assert [a["id"] for a in refused.json["contained"]] == [f"offer-{free.pk}"]
        twice = client(
            "POST", "Appointment/$book", {**body, "identifier": [{"system": "urn:x", "value": "A-2"}]}
        )
        assert twice.status == 409
        assert twice.issues[0]["extension"][0]["valueReference"] == ref(
            "Appointment", appointment(made)["id"]
        )
        off = client("POST", "Appointment/$book", {**appointment(made), "status": "cancelled"})
        assert appointment(off)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("operation", "body", "status"),
    [
        ("$find", parameters(start="yesterday"), 400),
        ("$find", parameters(start="2026-03-02", end="2026-03-01"), 422),
        ("$find", parameters(organization=ref("Organization", "NONE")), 422),
        ("$find", parameters(organization=ref("Patient", "x")), 400),
        ("$find", parameters(practitioner=ref("Practitioner", "nobody")), 422),
        ("$find", parameters(patient=ref("Patient", "nobody")), 422),
        ("$find", parameters(count="-1"), 400),
        ("$hold", None, 400),
        ("$hold", parameters(appointment_reference=ref("Appointment", "x")), 404),
        ("$hold", parameters(appointment_reference=ref("Patient", "x")), 400),
        ("$hold", parameters(appointment_reference=ref("Appointment", "offer-999999999999")), 422),
        ("$hold", parameters(appointment_reference=ref("Appointment", "offer-1-0"), number=0), 400),
        ("$book", parameters(appointment_resource={"resourceType": "Patient"}), 400),
        ("$book", parameters(appointment_reference=ref("Appointment", "place-999999999")), 404),
        ("$book", parameters(appointment_reference=ref("Appointment", "YY20260101-1")), 404),
        ("$book", parameters(slot=ref("Slot", "slot-1"), key="k" * 101, patient=ref("Patient", "x")), 422),
        ("$book", parameters(slot=ref("Slot", "other")), 422),
        ("$book", b'{"resourceType": "Parameters", "parameter": [{"name": "slot", "valueReference": {"reference": 5}}]}', 422),
        ("$book", b"[]", 422),
        ("$book", b"{", 400),
        ("place-1/$cancel", None, 404),
        ("nothing/$cancel", None, 404),
        ("place-1/$reschedule", None, 404),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_place(
    committed: World, operation: str, body: object, status: int
) -> None:
    with clock.at(START):
        reply = township(committed)("POST", f"Appointment/{operation}", body)
    assert reply.status == status, reply.raw
    assert reply.json["resourceType"] == "OperationOutcome"
    assert reply.issues[0]["diagnostics"]


def test_who_may_not(committed: World) -> None:
    world = committed
    with clock.at(START):
        one = session(world, 3)
        ask = parameters(slot=ref("Slot", f"slot-{one.pk}"), patient=ref("Patient", world.person.number))
        reader = Client("reader", world.county.townships[0].code, "system/Appointment.rs system/Slot.rs")
        assert reader("POST", "Appointment/$book", ask).status == 403
        assert reader("GET", "Appointment/$find").status == 200
        slotless = Client("slotless", world.county.townships[0].code, "system/Appointment.cruds")
        assert slotless("GET", "Appointment/$find").status == 403
        stranger = Client("stranger", world.county.townships[2].code, SCOPES)
        assert stranger("POST", "Appointment/$book", ask).status == 422, "the patient is nobody to it"
        everybody = Client("city", None, SCOPES)
        assert everybody("POST", "Appointment/$book", ask).status == 403
        made = township(world)("POST", "Appointment/$book", ask)
        number = appointment(made)["id"]
        assert stranger("POST", f"Appointment/{number}/$cancel").status == 404
        assert stranger("POST", f"Appointment/{number}/$reschedule", parameters(number=2)).status == 404
        assert township(world)("GET", f"Appointment/{number}/$cancel").status == 405
        told = township(world)("GET", "metadata").json["rest"][0]["resource"]
        mine = next(r for r in told if r["type"] == "Appointment")
        assert {o["name"] for o in mine["operation"]} >= {"find", "hold", "book", "cancel", "reschedule"}


def test_who_waits_keeps_the_offer_when_a_stranger_is_refused(committed: World) -> None:
    world = committed
    first, second, stranger = people(world, 3)
    system = Scope.system("test")
    with clock.at(START):
        client = township(world)
        one = session(world, 1)
        pool.hold(one.pk, first.pk, "public", "h", minutes=15)
        waiting = service.wait(system, one.pk, second.pk, "w", channel="public")
    with clock.at(START + dt.timedelta(minutes=16)):
        slot, patient = ref("Slot", f"slot-{one.pk}"), ref("Patient", stranger.number)
        refused = client("POST", "Appointment/$hold", parameters(slot=slot, patient=patient))
        assert refused.status == 409
        assert Waiting.objects.unscoped("test").get(pk=waiting.pk).state == "offered"
        assert pool.recount() == []
