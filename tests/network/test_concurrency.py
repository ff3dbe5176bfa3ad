"""Two administrators at once: what holds row by row must hold when transactions overlap (real connections, committed rows)."""

import threading
from functools import partial

import pytest
from django.db import DatabaseError, connection, transaction

from lianxin.network.models import Institution
from tests.factories import make_institution

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


def at_once(*acts):
    """Run each act in its own transaction on its own connection, all reaching the commit together; who succeeded?"""
    ready, done = threading.Barrier(len(acts)), threading.Barrier(len(acts))
    outcome: dict[int, bool] = {}

    def run(number, act):
        try:
            with transaction.atomic():
                ready.wait(10)
                act()
                done_soon(done)
            outcome[number] = True
        except DatabaseError:
            outcome[number] = False
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(t.is_alive() for t in threads)
    return [outcome[n] for n in range(len(acts))]


def done_soon(barrier):
    """Give the other side time to overlap; one that waits for our lock cannot come, and that is as good."""
    try:
        barrier.wait(0.3)
    except threading.BrokenBarrierError:
        return


def test_a_clinic_arrives_while_its_township_becomes_a_hospital():
    township = make_institution("T", "township")
    for turn in range(4):
        Institution.objects.filter(kind="village").delete()
        Institution.objects.filter(pk=township.pk).update(kind="township")
        clinic = Institution(code=f"V{turn}", name="村", kind="village", tier="village", parent=township)
        arrive = partial(Institution.objects.bulk_create, [clinic])
        turn_hospital = partial(Institution.objects.filter(pk=township.pk).update, kind="hospital")
        won = at_once(arrive, turn_hospital)
        assert sum(won) == 1
        township.refresh_from_db()
        assert (township.kind == "hospital") == (not Institution.objects.filter(kind="village").exists())


def test_two_moves_that_together_would_close_a_ring():
    a, b, c, d = (make_institution(code, "hospital") for code in "ABCD")
    Institution.objects.filter(pk=b.pk).update(parent=c)
    Institution.objects.filter(pk=d.pk).update(parent=a)

    def move(child, parent):
        return partial(Institution.objects.filter(pk=child.pk).update, parent=parent)

    assert sorted(at_once(move(a, b), move(c, d))) == [False, True]
