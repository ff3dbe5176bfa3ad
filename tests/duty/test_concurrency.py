"""Real connections pressing the same button at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from lianxin.duty import kernel, machine, outbox, proof
from lianxin.duty.models import Act, Case, Outbox

from .toy import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run the calls in as many threads, each with its own connection, started together; results or exceptions."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            gate.wait(30)
            return call()
        except Exception as failure:
            return failure
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_two_press_the_same_button_one_wins_and_the_other_is_told() -> None:
    world = World()
    case = world.open().case
    results = at_once(
        [lambda w=who, n=n: kernel.execute("take", case.number, w, {}, 1, f"press-{n}") for n, who in enumerate([world.desk, world.reader] * 4)]
    )  # fmt: skip
    won = [r for r in results if isinstance(r, kernel.Done)]
    lost = [r for r in results if isinstance(r, kernel.Stale)]
    assert (len(won), len(lost)) == (1, 7), results
    assert {loser.current_version for loser in lost} == {2}
    assert {loser.moved_by for loser in lost} == {won[0].act.actor}
    assert proof.check() == []


def test_twenty_threads_with_one_key_do_one_act() -> None:
    world = World()
    opened = at_once([lambda: world.open(key="once") for _ in range(20)])
    assert len({d.case.pk for d in opened}) == 1, opened
    assert sum(not d.replayed for d in opened) == 1
    number = opened[0].case.number
    taken = at_once([lambda: kernel.execute("take", number, world.desk, {}, 1, "one") for _ in range(20)])
    assert len({d.act.pk for d in taken}) == 1, taken
    assert sum(not d.replayed for d in taken) == 1
    assert Act.objects.count() == 2
    assert proof.check() == []


_KILLED = """
import os, signal, sys
import django
django.setup()
from django.db import connections
connections["default"].settings_dict["NAME"] = sys.argv[1]
from lianxin.duty import kernel, machine
from tests.duty import toy
from lianxin.access.scope import Scope
import dataclasses
def die(ctx):
    os.kill(os.getpid(), signal.SIGKILL)
machine.register(dataclasses.replace(toy.MACHINE, publish=die))
institution = int(sys.argv[3])
by = Scope(institution_id=institution, institution_ids=frozenset({institution}), roles=frozenset({"referral_desk"}), name="x")
kernel.execute("take", sys.argv[2], by, {}, 1, "killed")
"""


def test_a_process_killed_in_the_middle_of_a_move_leaves_nothing() -> None:
    world = World()
    case = world.open().case
    env = os.environ | {"PYTHONPATH": os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])}
    args = [
        sys.executable,
        "-c",
        _KILLED,
        connection.settings_dict["NAME"],
        case.number,
        str(world.hospital.pk),
    ]
    killed = subprocess.run(args, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    row = Case.objects.unscoped("test").get(pk=case.pk)
    assert (row.state, row.version) == ("asked", 1)
    assert Act.objects.filter(key="killed").count() == 0
    assert proof.check() == []
    assert not kernel.execute("take", case.number, world.desk, {}, 1, "killed").replayed


def test_a_connection_cut_in_the_middle_of_a_move_leaves_nothing() -> None:
    world = World()
    case = world.open().case

    def cut(ctx: Any) -> None:
        pid = connection.connection.info.backend_pid
        other = connections.create_connection("default")
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        other.close()

    m = machine.get("toy")
    published, m.publish = m.publish, cut
    try:
        (result,) = at_once([lambda: kernel.execute("take", case.number, world.desk, {}, 1, "cut")])
    finally:
        m.publish = published
    assert isinstance(result, Exception)
    assert Case.objects.unscoped("test").get(pk=case.pk).version == 1
    assert proof.check() == []


def test_a_move_that_lost_a_deadlock_is_tried_again() -> None:
    world = World()
    case = world.open().case
    m = machine.get("toy")
    tries: list[int] = []

    def collide(ctx: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$")

    published, m.publish = m.publish, collide
    try:
        assert kernel.execute("take", case.number, world.desk, {}, 1, "again").case.version == 2
    finally:
        m.publish = published
    assert len(tries) == 3
    assert proof.check() == []


def test_dispatchers_side_by_side_keep_the_order_of_each_key() -> None:
    seen: list[tuple[str, int]] = []
    lock = threading.Lock()

    def consumer(event: Outbox) -> None:
        with lock:
            seen.append((event.key, event.payload["n"]))

    outbox.register("race", "t", consumer)
    for n in range(15):
        for key in "abcd":
            outbox.emit("race", key, {"n": n})

    def drain() -> None:
        while outbox.waiting():
            outbox.dispatch(3)

    assert at_once([drain] * 4) == [None] * 4
    for key in "abcd":
        assert [n for k, n in seen if k == key] == list(range(15))
