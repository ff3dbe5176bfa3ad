"""Two people press the same button at the same moment: one wins, the other is told what happened meanwhile."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reliability.conftest import Town
from tests.reliability.installation import Browser
from tests.reliability.moves import Client, parameters

pytestmark = [pytest.mark.concurrency]

VERSION = re.compile(r'name="_version" value="(\d+)"')


def test_two_people_on_the_page(town: Town) -> None:
    client = Client(town, "press")
    number = client.refer(town.people[-3])
    client.act(town.head, number, "receive")
    desk = town.account("xn-syy", "转诊办")
    hands = [Browser(town.site), Browser(town.site)]
    seen = []
    for hand in hands:
        hand.sign_in(*desk)
        page = hand.go("GET", f"/referrals/{number}?act=accept").raw.decode()
        version = VERSION.search(page)
        assert version, page[-2000:]
        seen.append(version[1])
    assert seen[0] == seen[1], "both look at the same version"
    barrier = threading.Barrier(2)

    def press(hand: Browser) -> tuple[int, str]:
        barrier.wait(30)
        form = {"_version": seen[0], "_key": f"press-{id(hand)}"}
        answer = hand.go("POST", f"/referrals/{number}/act/accept", form)
        return answer.status, answer.raw.decode()

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(press, hands))
    assert [status for status, _ in answers] == [302, 409], answers
    assert "已" in answers[1][1]
    assert 'role="alert"' in answers[1][1] or "alert" in answers[1][1]
    acts = "SELECT count(*) FROM duty_act a JOIN duty_case c ON c.id = a.case_id WHERE c.number = %s AND a.move = 'accept'"
    assert town.site.count(acts, number) == 1


def test_twenty_systems_at_once_with_the_same_version(town: Town) -> None:
    client = Client(town, "press20")
    number = client.refer(town.people[-4])
    version = client.act(town.head, number, "receive").value("version")
    barrier = threading.Barrier(20)

    def press(n: int) -> int:
        barrier.wait(30)
        body = parameters(move="accept", key=f"press20-{n}", expectedVersion=version)
        answer = town.site.fhir(town.head, "POST", f"ServiceRequest/{number}/$act", body, seconds=60)
        if answer.status == 409:
            assert re.search(r"[㐀-鿿]", answer.json["issue"][0]["details"]["text"])
            assert answer.json["issue"][0]["diagnostics"]
        return answer.status

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(press, range(20))) == [200] + [409] * 19


def test_the_same_key_at_once_is_one_move(town: Town) -> None:
    client = Client(town, "same")
    number = client.refer(town.people[-5])
    barrier = threading.Barrier(12)
    body = parameters(move="receive", key="same-key")

    def press(_: int) -> tuple[int, bool, int]:
        barrier.wait(30)
        answer = town.site.fhir(town.head, "POST", f"ServiceRequest/{number}/$act", body, seconds=60)
        return answer.status, answer.value("replayed"), answer.value("version")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(press, range(12)))
    assert {status for status, *_ in answers} == {200}
    assert len({version for *_, version in answers}) == 1
    assert [replayed for _, replayed, _ in answers].count(False) == 1
