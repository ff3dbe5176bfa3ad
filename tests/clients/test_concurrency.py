"""Many clients at once, over the wire, against two worker processes: nobody is doubled, lost, or told 500."""

from __future__ import annotations

import collections
import datetime as dt
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lianxin.standards.identifiers import resident_id_make
from tests.clients.conftest import Door
from tests.clients.speech import (
    SYSTEM,
    bundle,
    entry,
    good,
    matches,
    observation,
    patient,
    practitioner,
    unique,
)
from tests.reliability.installation import Answer

pytestmark = [pytest.mark.concurrency]
ID_CARD = "http://lianxin.example/id/resident-id-card"
CROWD = 8


def at_once(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run everything from one starting shot; results in order."""
    jobs = list(works)
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def insist(ask: Callable[[], Answer]) -> Answer:
    """Ask again when the door says "busy, again" (409 conflict or 503 with Retry-After); anything else is the answer."""
    for _ in range(50):
        answer = ask()
        if answer.status not in (409, 503):
            return answer
        assert answer.json["resourceType"] == "OperationOutcome"
    return answer


def tally(answers: Iterable[Answer]) -> dict[int, int]:
    return dict(collections.Counter(a.status for a in answers))


def rid(answer: Answer) -> str:
    return answer.headers["location"].split("/_history")[0].split("/")[-1]


@pytest.mark.parametrize("kind", ["Practitioner", "Patient"])
def test_forty_identifiers_eight_conditional_creates_each(door: Door, kind: str) -> None:
    tag = unique()
    values = [f"{tag}-{n}" for n in range(40)]
    make = practitioner if kind == "Practitioner" else patient

    def create(value: str) -> Callable[[], tuple[str, Answer]]:
        def ask() -> tuple[str, Answer]:
            return value, door("POST", kind, make(value), If_None_Exist=f"identifier={SYSTEM}|{value}")

        return ask

    answers: dict[str, list[Answer]] = collections.defaultdict(list)
    for start in range(0, 40, 4):  # 32 at once: four identifiers, eight of each
        crowd = [create(v) for v in values[start : start + 4] for _ in range(CROWD)]
        random.Random(start).shuffle(crowd)
        for value, answer in at_once(crowd):
            answers[value].append(answer)
    for value, got in answers.items():
        assert tally(got) == {201: 1, 200: CROWD - 1}, (
            value,
            [a.raw[:200] for a in got if a.status not in (200, 201)],
        )
        assert len({rid(a) for a in got}) == 1
    everyone = ",".join(f"{SYSTEM}|{v}" for v in values)
    assert door("GET", f"{kind}?identifier={everyone}&_summary=count").json["total"] == 40


def test_conditional_creates_in_transactions(door: Door) -> None:
    values = [f"{unique()}-t" for _ in range(5)]

    def whole(turn: int) -> dict[str, Any]:
        order = random.Random(turn).sample(values, len(values))
        return bundle(
            "transaction",
            *(
                entry("POST", "Practitioner", practitioner(v), ifNoneExist=f"identifier={SYSTEM}|{v}")
                for v in order
            ),
        )

    answers = at_once(
        lambda turn=turn: insist(lambda: door("POST", "", whole(turn))) for turn in range(CROWD)
    )
    assert tally(answers) == {200: CROWD}, [a.raw[:300] for a in answers if a.status != 200]
    made = collections.Counter(e["response"]["status"][:3] for a in answers for e in a.json["entry"])
    assert made == {"201": len(values), "200": len(values) * (CROWD - 1)}
    everyone = ",".join(f"{SYSTEM}|{v}" for v in values)
    assert door("GET", f"Practitioner?identifier={everyone}&_summary=count").json["total"] == len(values)


@pytest.mark.parametrize("kind", ["Practitioner", "Patient"])
def test_conditional_updates(door: Door, kind: str) -> None:
    make = practitioner if kind == "Practitioner" else patient
    for _ in range(4):
        value = unique()
        path = f"{kind}?identifier={SYSTEM}|{value}"
        answers = at_once(
            lambda n=n, path=path, value=value: insist(
                lambda: door("PUT", path, make(value, active=bool(n % 2)))
            )
            for n in range(CROWD)
        )
        assert tally(answers) == {201: 1, 200: CROWD - 1}, [
            a.raw[:300] for a in answers if a.status not in (200, 201)
        ]
        assert len({rid(a) for a in answers}) == 1
        versions = door("GET", f"{kind}/{rid(answers[0])}/_history").json["entry"]
        assert [int(v["resource"]["meta"]["versionId"]) for v in versions] == list(
            range(len(versions), 0, -1)
        )
        assert door("GET", f"{path}&_summary=count").json["total"] == 1


def test_patches_with_if_match_lose_nothing(door: Door) -> None:
    made = good(door("POST", "Practitioner", practitioner(unique())), 201).json
    path, turns = f"Practitioner/{made['id']}", 4

    def add(who: int) -> list[int]:
        told = []
        for turn in range(turns):
            while True:
                tag = door("GET", path).headers["etag"]
                change = [
                    {
                        "op": "add",
                        "path": "/identifier/-",
                        "value": {"system": "urn:turn", "value": f"{who}-{turn}"},
                    }
                ]
                answer = door("PATCH", path, change, Content_Type="application/json-patch+json", If_Match=tag)
                told.append(answer.status)
                if answer.status == 200:
                    break
                assert answer.status in (409, 412, 503), answer.raw[:300]
        return told

    at_once(lambda who=who: add(who) for who in range(CROWD))
    kept = door("GET", path).json
    own = [i["value"] for i in kept["identifier"] if i["system"] == "urn:turn"]
    assert sorted(own) == sorted(f"{w}-{t}" for w in range(CROWD) for t in range(turns))
    assert kept["meta"]["versionId"] == str(1 + CROWD * turns)


def test_one_of_many_updates_of_a_version_wins(door: Door) -> None:
    for _ in range(5):
        made = good(door("POST", "Practitioner", practitioner(unique())), 201).json
        answers = at_once(
            lambda n=n, made=made: door(
                "PUT", f"Practitioner/{made['id']}", {**made, "active": bool(n % 2)}, If_Match='W/"1"'
            )
            for n in range(CROWD)
        )
        counted = tally(answers)
        assert counted.pop(200) == 1
        assert set(counted) <= {409, 412}, [a.raw[:300] for a in answers]


def test_transactions_over_the_same_resources_in_every_order(door: Door) -> None:
    made = [good(door("POST", "Practitioner", practitioner(unique())), 201).json for _ in range(6)]

    def whole(turn: int) -> dict[str, Any]:
        order = random.Random(turn).sample(made, len(made))
        return bundle(
            "transaction",
            *(entry("PUT", f"Practitioner/{p['id']}", {**p, "active": bool(turn % 2)}) for p in order),
        )

    def work(who: int) -> list[Answer]:
        return [insist(lambda turn=turn: door("POST", "", whole(who * 10 + turn))) for turn in range(3)]

    answers = [a for got in at_once(lambda who=who: work(who) for who in range(CROWD)) for a in got]
    assert tally(answers) == {200: CROWD * 3}, [a.raw[:300] for a in answers if a.status != 200]
    for one in made:
        assert door("GET", f"Practitioner/{one['id']}").json["meta"]["versionId"] == str(1 + CROWD * 3)


def test_transactions_with_patients_and_single_writes_in_every_order(door: Door) -> None:
    people = [good(door("POST", "Patient", patient(unique())), 201).json for _ in range(4)]

    def work(who: int) -> list[Answer]:
        told, rnd = [], random.Random(who)
        for turn in range(3):
            order = rnd.sample(people, len(people))
            if who % 2:
                parts = [
                    entry("PUT", f"Patient/{p['id']}", {**p, "gender": rnd.choice(("male", "female"))})
                    for p in order
                ]
                parts += [
                    entry("POST", "Observation", observation(f"Patient/{p['id']}", turn)) for p in order
                ]
                told.append(insist(lambda parts=parts: door("POST", "", bundle("transaction", *parts))))
            else:
                for p in order:
                    told.append(
                        insist(
                            lambda p=p: door("PUT", f"Patient/{p['id']}", {**p, "birthDate": "1981-01-01"})
                        )
                    )
                    told.append(
                        insist(lambda p=p: door("POST", "Observation", observation(f"Patient/{p['id']}")))
                    )
        return told

    answers = [a for got in at_once(lambda who=who: work(who) for who in range(CROWD)) for a in got]
    assert set(tally(answers)) <= {200, 201}, [a.raw[:300] for a in answers if a.status not in (200, 201)]
    for p in people:
        assert (
            door("GET", f"Observation?patient={p['id']}&_summary=count").json["total"] == CROWD // 2 * 3 * 2
        )


@pytest.mark.parametrize("kind", ["Practitioner", "Patient"])
def test_create_by_update_at_once(door: Door, kind: str) -> None:
    make = practitioner if kind == "Practitioner" else patient
    for _ in range(5):
        own = f"race-{unique()}"
        answers = at_once(
            lambda own=own: insist(lambda: door("PUT", f"{kind}/{own}", make(own, id=own)))
            for _ in range(CROWD)
        )
        assert tally(answers) == {201: 1, 200: CROWD - 1}, [
            a.raw[:300] for a in answers if a.status not in (200, 201)
        ]
        versions = door("GET", f"{kind}/{own}/_history").json["entry"]
        assert [int(v["resource"]["meta"]["versionId"]) for v in versions] == list(range(CROWD, 0, -1))


def test_delete_against_update(door: Door) -> None:
    for _ in range(4):
        made = good(door("POST", "Practitioner", practitioner(unique())), 201).json
        path = f"Practitioner/{made['id']}"
        works = [lambda p=path, m=made: door("PUT", p, m), lambda p=path: door("DELETE", p)] * (CROWD // 2)
        answers = at_once(works)
        assert set(tally(answers)) <= {200, 201, 204, 409, 412}, [a.raw[:300] for a in answers]
        entries = door("GET", f"{path}/_history").json["entry"]
        numbers = [int(e["response"]["etag"].strip('W/"')) for e in entries]
        assert numbers == list(range(len(numbers), 0, -1)), "a version is missing or doubled"
        last = entries[0]["request"]["method"] == "DELETE"
        assert door("GET", path).status == (410 if last else 200)
        assert door("GET", f"Practitioner?_id={made['id']}").json["total"] == (0 if last else 1)


def test_one_person_registered_by_many_at_once(door: Door) -> None:
    """Eight systems register the same identity number under ids of their own: eight records of one person."""
    number = resident_id_make("331023", dt.date(1962, 3, 4), 271)
    card = [{"system": ID_CARD, "value": number}]
    ids = [f"same-{unique()}" for _ in range(CROWD)]
    people = [
        patient("x", id=i, identifier=card, birthDate="1962-03-04", gender="male", name=[{"text": "单一人"}])
        for i in ids
    ]
    answers = at_once(
        lambda p=p, n=n: insist(
            lambda: door("PUT", f"Patient/{p['id']}", p, token=door.token if n % 2 else door.other)
        )
        for n, p in enumerate(people)
    )
    assert tally(answers) == {201: CROWD}, [a.raw[:300] for a in answers]
    found = matches(door("GET", f"Patient?identifier={ID_CARD}|{number}").json)
    assert len({p["id"] for p in found} & set(ids)) == CROWD
    counted = door.site.count(
        "SELECT count(DISTINCT person_id) FROM index_sourcerecord WHERE patient_id = ANY(%s)", ids
    )
    assert counted == 1


def test_readers_never_see_half_of_a_transaction(door: Door) -> None:
    tag = unique()
    meta = {"tag": [{"system": SYSTEM, "code": tag}]}
    pair = [
        good(door("POST", "Practitioner", practitioner(unique(), meta=meta, active=True)), 201).json
        for _ in range(2)
    ]
    stop = threading.Event()

    def read() -> int:
        seen = 0
        while not stop.is_set():
            found = matches(door("GET", f"Practitioner?_tag={SYSTEM}|{tag}").json)
            assert len(found) == 2
            assert len({p["active"] for p in found}) == 1, found
            seen += 1
        return seen

    def write() -> int:
        try:
            for turn in range(30):
                entries = (
                    entry("PUT", f"Practitioner/{p['id']}", {**p, "active": bool(turn % 2)}) for p in pair
                )
                good(door("POST", "", bundle("transaction", *entries)), 200)
        finally:
            stop.set()
        return 30

    assert all(at_once([read, read, write]))


def test_pages_stay_true_while_others_write(door: Door) -> None:
    tag = unique()
    meta = {"tag": [{"system": SYSTEM, "code": tag}]}
    first = [entry("POST", "Practitioner", practitioner(unique(), meta=meta)) for _ in range(60)]
    places = [
        e["response"]["location"]
        for e in good(door("POST", "", bundle("transaction", *first)), 200).json["entry"]
    ]
    old = {p.split("/_history")[0].split("/")[-1] for p in places}
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            good(door("POST", "Practitioner", practitioner(unique(), meta=meta)), 201)

    def page() -> list[str]:
        seen: list[str] = []
        try:
            for sort in ("", "&_sort=_id", "&_sort=-_lastUpdated"):
                got: list[str] = []
                url = f"Practitioner?_tag={SYSTEM}|{tag}&_count=7{sort}"
                while url:
                    found = good(door("GET", url), 200).json
                    got += [p["id"] for p in matches(found)]
                    url = next(
                        (
                            n["url"].removeprefix(f"{door.base}/")
                            for n in found["link"]
                            if n["relation"] == "next"
                        ),
                        "",
                    )
                assert len(got) == len(set(got)), f"something came twice {sort}"
                assert old <= set(got), f"something that was there throughout is missing {sort}"
                seen += got
        finally:
            stop.set()
        return seen

    assert at_once([page, write, write])[0]
