"""Many at once through the FHIR door, and the worker killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextvars import copy_context

from django.db import connection, connections

from lianxin.duty.models import Case
from lianxin.pool import booking as pool
from lianxin.pool.models import Place, Session
from lianxin.resident.booking.models import Appointment
from lianxin.resident.scheduling import asking
from lianxin.resident.scheduling.models import Question
from lianxin.standards import clock
from tests.referral.world import START, World

from .hospital import running
from .test_asking import book, system, theirs
from .world import parameters, people, ref, session, township

CLIENTS, SLOTS = 8, 60


def test_eight_clients_and_sixty_slots_of_one_number(committed: World) -> None:
    """The field's most common fault: 27 of 60 capacity-one slots were booked twice when 8 people tried at once."""
    world = committed
    with clock.at(START):
        client, patients = township(world), people(world, CLIENTS)
        slots = [
            session(world, 1, days=1 + n // 6, hour=n % 6 + 7, clinic_type=f"号{n}") for n in range(SLOTS)
        ]
        told: Counter[int] = Counter()
        guard, ready = threading.Lock(), threading.Barrier(CLIENTS)

        def work(number: str) -> None:
            try:
                ready.wait()
                for one in slots:
                    ask = parameters(slot=ref("Slot", f"slot-{one.pk}"), patient=ref("Patient", number))
                    status = client("POST", "Appointment/$book", ask).status
                    with guard:
                        told[status] += 1
            finally:
                connections.close_all()

        threads = [threading.Thread(target=copy_context().run, args=(work, p.number)) for p in patients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(told) == {201, 409}, told
    places = Place.objects.unscoped("test").exclude(state="cancelled")
    per_slot = Counter(places.values_list("session_id", flat=True))
    assert max(per_slot.values()) == 1, "none twice"
    assert told[201] == places.count() == Appointment.objects.unscoped("test").count()
    assert sum(told.values()) == CLIENTS * SLOTS
    # one specialty and day: three visits a patient at most; so what is left was refused by that rule, not lost
    assert Session.objects.filter(taken_township=1).count() == told[201]
    assert pool.recount() == []


WORKER = """
import datetime as dt, os, threading, django
django.setup()
from django.db import connections
connections["default"].settings_dict["NAME"] = os.environ["DB"]
from lianxin.standards import clock
from lianxin.resident.scheduling import asking
with clock.at(dt.datetime.fromisoformat(os.environ["NOW"])):
    asking.step()
"""


def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(committed: World) -> None:
    world = committed
    with running() as hospital:
        with clock.at(START):
            system(world, hospital)
            day = theirs(world, 4)
            made = [book(world, day, p.pk) for p in people(world, 4)]
            held = threading.Event()

            def mood(key: str) -> str:
                # the first call is booked at the hospital, then hangs until the worker is dead
                if not held.is_set():
                    held.set()
                    return "slow"
                return "yes"

            hospital.mood = mood
            env = {**os.environ, "DB": str(connection.settings_dict["NAME"]), "NOW": START.isoformat()}
            worker = subprocess.Popen([sys.executable, "-c", WORKER], env=env, start_new_session=True)
            try:
                assert hospital.started.wait(60)
            finally:
                os.kill(worker.pid, signal.SIGKILL)
                worker.wait()
        until = time.monotonic() + 20
        while len(hospital.made) < sum(hospital.asked.values()) and time.monotonic() < until:
            time.sleep(0.05)  # what had arrived is booked there
        rows = Question.objects.unscoped("test")
        assert rows.filter(state="asking").exists(), "it was killed while it waited"
        with clock.at(START.replace(hour=10)):
            asking.step()
        assert {c.state for c in Case.objects.unscoped("test").filter(kind="appointment")} == {"booked"}
        assert rows.filter(state="confirmed").count() == len(made)
        assert set(hospital.made.values()) == {1}, "nothing twice"
        assert len(hospital.made) == len(made), "nothing lost"
        assert set(hospital.asked.values()) == {1}, "asked about by its key before it is asked for again"
