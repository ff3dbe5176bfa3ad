"""Sessions and places as FHIR in the record."""

import json

import pytest
from django.db import connection

from lianxin.pool import booking, publish
from lianxin.record import store
from lianxin.standards import clock

from .test_booking import at, make_person, make_session

pytestmark = pytest.mark.django_db


def _stored(rtype: str, rid: str) -> dict:
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM record_resource WHERE rtype = %s AND id = %s", [rtype, rid])
        return json.loads(store.opened(rtype, cursor.fetchone()[0]))


def test_a_place_is_published_with_its_slot_and_follows_its_state() -> None:
    session = make_session(capacity=1)
    with clock.at(at(2, 9)):
        assert publish.publish_sessions(publish.for_publishing([session.pk])) == 1
        assert _stored("Slot", f"slot-{session.pk}")["status"] == "free"
        place = booking.book(session.pk, make_person(), "public", "k")
        publish.publish_place(place)
        publish.publish_sessions(publish.for_publishing([session.pk]))
        assert _stored("Slot", f"slot-{session.pk}")["status"] == "busy"
        publish.publish_sessions(publish.for_publishing([session.pk]), {session.pk: 1})
        assert _stored("Slot", f"slot-{session.pk}")["status"] == "busy-tentative"
        assert _stored("Appointment", f"place-{place.pk}")["status"] == "booked"
        booking.cancel(place, "改期")
        publish.publish_place(place)
        publish.publish_sessions(publish.for_publishing([session.pk]))
    stored = _stored("Appointment", f"place-{place.pk}")
    assert stored["status"] == "cancelled"
    assert stored["cancelationReason"] == {"text": "改期"}
    assert stored["participant"][1]["actor"]["reference"].startswith("HealthcareService/")
    assert _stored("Slot", f"slot-{session.pk}")["status"] == "free"
