"""``kill -9`` of the dispatcher, again and again, while it sends: nothing is lost, order and numbers hold."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

import pytest

from tests.exchange.receiver import Receiver, listening
from tests.reliability.conftest import Town
from tests.reliability.installation import Installation, _environment, eventually

pytestmark = [pytest.mark.concurrency]
WRITES = 90


def tickers(site: Installation) -> list[int]:
    return [pid for pid in site._own() if b"LIANXIN_ROLE=ticker" in _environment(pid)]


def kill(site: Installation) -> list[int]:
    """``kill -9`` of the ticker, in which the dispatcher lives; waits until it is another one."""
    old = eventually(lambda: tickers(site), what="a ticker")
    for pid in old:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: (now := tickers(site)) and not set(now) & set(old), what="another ticker")
    return old


def subscription(receiver: Receiver, who: str, topic: bool) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "type": "rest-hook",
        "endpoint": receiver.url,
        "payload": "application/fhir+json",
    }
    criteria = f"Observation?patient=Patient/{who}&code=8480-6"
    made = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": channel,
    }
    if topic:
        base = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
        made["criteria"] = "http://lianxin.example/SubscriptionTopic/laboratory-result"
        made["_criteria"] = {
            "extension": [
                {"url": base + "filter-criteria", "valueString": f"Observation?patient=Patient/{who}"}
            ]
        }
        channel["_payload"] = {"extension": [{"url": base + "payload-content", "valueCode": "id-only"}]}
    return made


def test_killing_the_dispatcher_loses_nothing(site: Installation, town: Town) -> None:
    who = town.people[-1]
    result = {
        "resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
        "subject": {"reference": f"Patient/{who}"}, "effectiveDateTime": "2026-03-01",
    }  # fmt: skip
    with listening() as plain, listening() as topical:
        for one in (plain, topical):
            one.answer = lambda heard: (
                time.sleep(0.03) or 200
            )  # so that it is killed in the middle of sending
        made = []
        for receiver in (plain, topical):
            answer = site.fhir(
                town.township, "POST", "Subscription", subscription(receiver, who, receiver is topical)
            )
            assert answer.status == 201, answer.raw.decode()
            made.append(answer.json["id"])
        for one in made:
            eventually(
                lambda one=one: (
                    site.fhir(town.township, "GET", f"Subscription/{one}").json["status"] == "active"
                ),
                what="an active subscription",
            )
        ids: list[str] = []

        def write() -> None:
            for n in range(WRITES):
                answer = site.fhir(town.township, "POST", "Observation", {**result, "valueInteger": n})
                assert answer.status == 201, answer.raw.decode()
                ids.append(answer.json["id"])

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(3):
            seen = len(plain.events())
            eventually(lambda seen=seen: len(plain.events()) > seen + 3, what="events after a kill")
            kill(site)
        writer.join()
        assert len(ids) == WRITES
        eventually(lambda: numbers(plain) >= set(range(1, WRITES + 1)), what="every event")
        eventually(lambda: numbers(topical) >= set(range(1, WRITES + 1)), what="every event of the topic")
    assert numbers(plain) == numbers(topical) == set(range(1, WRITES + 1))
    assert firsts([(h.numbers[0], h.path.rpartition("/")[2]) for h in plain.events()]) == list(
        enumerate(ids, 1)
    )
    told = [
        (int(e["event-number"]), e["focus"].rpartition("/")[2])
        for h in topical.events()
        for e in h.parameters["events"]
    ]
    assert firsts(told) == list(enumerate(ids, 1))
    for receiver in (plain, topical):  # what comes again is what was under way, and nothing older
        for before, after in zip(receiver.events(), receiver.events()[1:], strict=False):
            assert after.numbers[0] in (before.numbers[0], before.numbers[-1] + 1)


def numbers(receiver: Receiver) -> set[int]:
    return {n for h in receiver.events() for n in h.numbers}


def firsts(told: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Each number with what it told, in the order they first came; the same number always tells the same."""
    found: dict[int, str] = {}
    for number, what in told:
        assert found.setdefault(number, what) == what
    return list(found.items())
