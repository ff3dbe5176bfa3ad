"""Delivery of notifications when things go wrong: receivers that are down, slow, redirecting or hanging; replay; two dispatchers."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction

from lianxin.access.models import AuditEvent
from lianxin.exchange.subscriptions import lifecycle, sending, wire
from lianxin.exchange.subscriptions.models import Subscription, SubscriptionEvent
from lianxin.exchange.subscriptions.worker import Dispatcher
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.exchange.receiver import Heard, listening
from tests.exchange.test_subscriptions import a_patient, observe, plain, subscribe, topical

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(db: None) -> Client:
    return Client("whole")


@pytest.fixture
def receiver() -> Any:
    with listening() as made:
        yield made


@pytest.fixture
def dispatcher(db: None) -> Any:
    made = Dispatcher(6)
    yield made
    made.close()
    wire.close()
    clock.shift(dt.timedelta())


def later(seconds: float) -> None:
    clock.shift(clock._offset + dt.timedelta(seconds=seconds))


def numbers(heard: list[Heard]) -> list[int]:
    return [n for h in heard for n in h.numbers]


def test_a_receiver_that_is_down_an_hour_loses_nothing_and_keeps_the_order(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    receiver.answer = lambda heard: 503
    ids = [observe(client, who, str(i)) for i in range(3)]
    for minute in range(60):
        dispatcher.settle()
        if minute % 20 == 10:
            ids.append(observe(client, who, str(100 + minute)))
        later(60)
    assert {h.path.rpartition("/")[2] for h in receiver.heard} == {
        ids[0]
    }  # always the same one, nothing overtakes it
    assert set(numbers(receiver.heard)) == {1}
    tried = len(receiver.heard)
    assert 8 < tried < 40  # ever more slowly
    one = Subscription.objects.get(fhir_id=made)
    assert (one.status, one.failures) == ("active", tried)
    assert "503" in one.last_error
    receiver.answer = lambda heard: 200
    receiver.heard.clear()
    later(600)
    dispatcher.settle()
    assert [h.path.rpartition("/")[2] for h in receiver.heard] == ids
    assert numbers(receiver.heard) == [1, 2, 3, 4, 5, 6]
    first = SubscriptionEvent.objects.get(subscription=one, number=1)
    assert (first.status, first.attempts, first.http_status) == ("sent", tried + 1, 200)
    one.refresh_from_db()
    assert (one.failures, one.failing_since) == (0, None)


def test_a_batch_that_was_not_taken_goes_out_again_as_it_was(client, receiver, dispatcher):
    subscribe(client, topical(receiver.url, "patient-changed", max_count=2), dispatcher)
    receiver.heard.clear()
    receiver.answer = lambda heard: None  # it took it, but nobody knows
    a_patient(client)
    dispatcher.settle()
    for _ in range(3):
        a_patient(client)
    receiver.answer = lambda heard: 200
    later(10)
    dispatcher.settle()
    assert [h.numbers for h in receiver.heard] == [[1], [1], [2, 3], [4]]
    assert receiver.heard[0].headers["idempotency-key"] == receiver.heard[1].headers["idempotency-key"]
    assert [h.parameters["events"][0]["event-number"] for h in receiver.heard] == ["1", "1", "2", "4"]


def test_after_days_of_failure_it_is_an_error_and_asking_again_goes_on(
    client, receiver, dispatcher, settings
):
    settings.SUBSCRIPTION_GIVE_UP_HOURS = 2
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    receiver.answer = lambda heard: 500
    observe(client, who)
    for _ in range(15):
        dispatcher.settle()
        later(601)
    resource = client("GET", f"Subscription/{made}").json
    assert resource["status"] == "error"
    assert "HTTP 500" in resource["error"]
    observe(client, who)  # still written down
    dispatcher.settle()
    receiver.answer = lambda heard: 200
    receiver.heard.clear()
    resource["status"] = "requested"
    assert client("PUT", f"Subscription/{made}", resource).status == 200
    dispatcher.settle()
    assert numbers(receiver.heard) == [1, 2]
    after = client("GET", f"Subscription/{made}").json
    assert after["status"] == "active"
    assert "error" not in after


def test_redirects_are_not_followed(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    receiver.answer = lambda heard: (302, {"Location": receiver.url + "/elsewhere"})
    observe(client, who)
    dispatcher.settle()
    assert [h.path for h in receiver.heard] == [receiver.heard[0].path]
    assert "redirects" in Subscription.objects.get(fhir_id=made).last_error


def test_a_receiver_that_drips_is_cut_off():
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            peer, _ = server.accept()
            with peer:
                try:
                    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1000:
                        peer.send(bytes([byte]))
                        if over.wait(0.05):
                            return
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        answer = wire.send("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b"x", 1)
        over.set()
        thread.join()
    assert (answer.ok, answer.status) == (False, None)
    assert "No answer within 1 s" in answer.error.en


def test_connection_refused_and_unknown_hosts_are_failures_with_words():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused = wire.send("POST", f"http://127.0.0.1:{port}/", {}, b"", 5)
    assert (refused.ok, refused.status) == (False, None)
    assert "refused" in refused.error.en
    unknown = wire.send("POST", "https://nowhere.invalid/", {}, b"", 5)
    assert not unknown.ok
    assert "cannot be found" in unknown.error.en


def test_hanging_receivers_do_not_hold_up_the_others(client, receiver, dispatcher):
    who = a_patient(client)
    release = threading.Event()
    with listening() as bad:
        bad.answer = lambda heard: 500
        for _ in range(8):  # more than there are senders
            subscribe(client, plain(bad.url), dispatcher)
        observe(client, who)
        dispatcher.settle()  # now they are known to be bad
        bad.answer = lambda heard: 200 if release.wait(30) else 500
        later(5)
        assert client("POST", "Subscription", plain(receiver.url)).status == 201
        for _ in range(40):
            dispatcher.step()
            release.wait(0.02)
        mine = [observe(client, who, str(i)) for i in range(5)]
        while len(receiver.heard) < 5:
            dispatcher.step()
            assert not release.wait(0.02)
        assert [h.path.rpartition("/")[2] for h in receiver.heard] == mine
        release.set()
        dispatcher.settle()


def test_replay_sends_again_with_the_same_numbers(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    ids = [observe(client, who, str(i)) for i in range(5)]
    dispatcher.settle()
    one = Subscription.objects.get(fhir_id=made)
    receiver.heard.clear()
    assert lifecycle.replay(one.pk, 3) == 3
    observe(client, who, "77")
    dispatcher.settle()
    assert numbers(receiver.heard) == [3, 4, 5, 6]
    assert [h.path.rpartition("/")[2] for h in receiver.heard][:3] == ids[2:]
    when = SubscriptionEvent.objects.get(subscription=one, number=2).happened_at
    assert lifecycle.number_at(one.pk, when) == 2


def test_a_replay_asked_for_while_a_batch_is_under_way_is_not_lost(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    observe(client, who, "1")
    dispatcher.settle()
    one = Subscription.objects.get(fhir_id=made)

    def answer(heard: Heard) -> int:
        if heard.numbers == [2] and not done:
            done.append(lifecycle.replay(one.pk, 1))
            connection.close()
        return 200

    done: list[int] = []
    receiver.answer = answer
    receiver.heard.clear()
    observe(client, who, "2")
    dispatcher.settle()
    assert numbers(receiver.heard) == [2, 1, 2]


def test_paused_subscriptions_keep_their_events(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    one = Subscription.objects.get(fhir_id=made)
    lifecycle.pause(one.pk, True)
    observe(client, who)
    dispatcher.settle()
    assert receiver.heard == []
    assert SubscriptionEvent.objects.filter(subscription=one, status="waiting").count() == 1
    lifecycle.pause(one.pk, False)
    dispatcher.settle()
    assert numbers(receiver.heard) == [1]


def test_a_sender_that_died_leaves_its_batch_to_another(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    one = Subscription.objects.get(fhir_id=made)
    ghost = 12345
    observe(client, who)
    for _ in range(3):
        from lianxin.exchange.subscriptions import matching

        matching.step(dispatcher.watch)
    assert [pk for pk, _ in sending.lease(ghost, 5, [], slow=True, settled=dispatcher.watch.settled)] == [
        one.pk
    ]
    with transaction.atomic():
        assert sending._prepare(one.pk, ghost) is not None
    # and here it is killed: nobody holds its lock any more
    dispatcher.settle()
    assert numbers(receiver.heard) == [1]


def test_a_failure_of_our_own_is_waited_out_and_told(client, receiver, dispatcher, monkeypatch):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    monkeypatch.setattr(sending.content, "message", lambda *a: 1 / 0)
    observe(client, who)
    dispatcher.settle()
    one = Subscription.objects.get(fhir_id=made)
    assert (one.failures, one.lease) == (1, 0)
    assert "An error of ours" in one.last_error
    monkeypatch.undo()
    later(2)
    dispatcher.settle()
    assert numbers(receiver.heard) == [1]


def test_two_dispatchers_tell_everything_once_and_in_order(client, receiver):
    who = a_patient(client)
    subscribe(client, plain(receiver.url))
    with listening() as second:
        subscribe(client, topical(second.url, "patient-changed", content="id-only"))
        stop = threading.Event()

        def run() -> None:
            from lianxin.exchange.subscriptions import worker

            worker.run(stop)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()

        def write(n: int) -> list[str]:
            try:
                own = [observe(client, who, str(n * 100 + i)) for i in range(10)]
                a_patient(client)
                return own
            finally:
                connections.close_all()

        try:
            with ThreadPoolExecutor(4) as writers:
                made = {i for ids in writers.map(write, range(4)) for i in ids}
            heard = receiver.wait(40)
            deadline = threading.Event()
            for _ in range(400):
                if len(numbers(second.events())) >= 4:
                    break
                deadline.wait(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            wire.close()
    assert numbers(heard) == list(range(1, 41))
    assert {h.path.rpartition("/")[2] for h in heard} == made
    told = numbers(second.events())
    assert sorted(set(told)) == told == list(range(1, len(told) + 1))
    rids = list(
        SubscriptionEvent.objects.filter(rtype="Observation").order_by("number").values_list("rid", flat=True)
    )
    assert rids == sorted(rids)
    assert len(rids) == 40


def test_what_is_told_about_people_is_audited_before_it_leaves(client, receiver, dispatcher):
    who = a_patient(client)
    made = subscribe(client, plain(receiver.url), dispatcher)
    observe(client, who)
    before = AuditEvent.objects.filter(action="export").count()
    dispatcher.settle()
    event = SubscriptionEvent.objects.get()
    entry = AuditEvent.objects.filter(action="export").latest("pk")
    assert AuditEvent.objects.filter(action="export").count() == before + 1
    assert (entry.what, entry.person_id) == (f"Subscription/{made}", event.person_id)
    assert '"events": [1, 1]' in entry.detail


def test_old_events_are_cleared_away_but_never_waiting_ones(client, receiver, dispatcher):
    who = a_patient(client)
    subscribe(client, plain(receiver.url), dispatcher)
    observe(client, who)
    dispatcher.settle()
    receiver.answer = lambda heard: 500
    observe(client, who)
    dispatcher.settle()
    later(40 * 86_400)
    assert lifecycle.tidy(dt.timedelta(days=30)) == 1
    assert [e.status for e in SubscriptionEvent.objects.all()] == ["waiting"]


def test_the_pauses_grow_from_a_second_to_ten_minutes():
    pauses = [sending.back_off(n).total_seconds() for n in range(1, 30)]
    assert 0.5 <= pauses[0] <= 1.0
    assert 300 <= pauses[-1] <= 600
    assert all(0 < p <= 600 for p in pauses)
    assert sending.back_off(10_000).total_seconds() <= 600
