"""Moves per second against pgbench with the same SQL, and the worklist among 100,000 open duties.

``python benchmarks/duty_moves.py`` (under a minute on an idle machine). The machine is the smallest there is, so the kernel is measured and
not some function's form.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

CASES = 800
FIRST_CASE, FIRST_DUTY, PERSON = 7_000_000, 8_000_000, 6_000_000
_scope: Any = None


def machine_of_two() -> None:
    """Asked → seen, one duty each, no domain row and no projection."""
    from lianxin.duty import machine
    from lianxin.duty.machine import Machine, Move, Owes, State
    from lianxin.standards.text import T

    w = T("试", "bench")
    machine.register(
        Machine(
            "bench", w, "BB",
            states=(
                State("asked", w, owes=Owes("ack", w, "receiver", "referral_desk", "day", "take")),
                State("seen", w, owes=Owes("answer", w, "receiver", "clinician", "day", "close")),
                State("done", w, terminal=True),
            ),
            moves=(
                Move("ask", w, (), "asked", parties=("referrer",)),
                Move("take", w, ("asked",), "seen", parties=("receiver",)),
                Move("close", w, ("seen",), "done", parties=("receiver",)),
            ),
            parts={"referrer": w, "receiver": w},
            clocks={"day": "1wd"},
        )
    )  # fmt: skip


def scope(code: str) -> Any:
    """Somebody at the institution ``code``."""
    from lianxin.access.scope import Scope
    from lianxin.network.models import Institution

    pk = Institution.objects.get(code=code).pk
    roles = frozenset({"referral_desk", "clinician"})
    return Scope(account_id=1, institution_id=pk, institution_ids=frozenset({pk}), roles=roles, name="bench")


def prepare() -> list[str]:
    """Two institutions, a person, CASES open cases with known ids; their numbers."""
    from django.db import connection, transaction

    from lianxin.duty import kernel
    from lianxin.index.models import Person
    from lianxin.network.models import Institution

    for code in ("A", "B"):
        Institution.objects.create(code=code, name=code, kind="hospital", tier="county")
    Person.objects.create(pk=PERSON, number="1", card_number="1", name="试", pinyin="shi", initials="s")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER SEQUENCE duty_case_id_seq RESTART {FIRST_CASE}")
        cursor.execute(f"ALTER SEQUENCE duty_duty_id_seq RESTART {FIRST_DUTY}")
    asker, receiver = scope("A"), scope("B")
    parties = {"referrer": asker.institution_id, "receiver": receiver.institution_id}
    numbers = []
    with transaction.atomic():
        for n in range(2 * CASES + 8):
            done = kernel.open_case("bench", PERSON, asker, {}, f"open-{n}", parties=parties)
            numbers.append(done.case.number)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return numbers


def one(number: str) -> None:
    """One move."""
    global _scope
    from lianxin.duty import kernel

    if _scope is None:
        machine_of_two()
        _scope = scope("B")
    kernel.execute("take", number, _scope, {}, 1, f"take-{number}")


def worklist_time() -> tuple[int, float, float]:
    """Open duties, and the median milliseconds of a worklist page and of the counts among them."""
    from django.db import connection

    from lianxin.duty import worklist

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO network_institution (code, name, name_en, pinyin, initials, short_name, kind, tier, level, ownership,"
            " division, address, phone, active) SELECT 'W' || n, 'W' || n, '', '', '', '', 'hospital', 'county', '', 'public',"
            " '', '', '', true FROM generate_series(1, 40) n"
        )
        cursor.execute(
            "INSERT INTO duty_duty (case_id, person_id, kind, label_zh, label_en, party, owner_institution_id, owner_role,"
            " button, clock, spec, since, opened_seq, opened_at, due_at, paused_minutes, ended, level)"
            " SELECT c.id, c.person_id, 'k' || k, '试', 'bench', 'receiver', i.id,"
            " (ARRAY['referral_desk', 'clinician'])[1 + k % 2], 'take', '', '', 'now', 1, c.opened_at,"
            " c.opened_at + (random() * 20 - 10) * interval '1 day', 0, '', 0"
            " FROM (SELECT *, row_number() OVER () AS r FROM duty_case) c CROSS JOIN generate_series(1, 62) k"
            " JOIN network_institution i ON i.code = 'W' || (1 + (c.r * 7 + k * 3) % 40)"
        )
        cursor.execute("ANALYZE")
        cursor.execute("SELECT count(*) FROM duty_duty WHERE ended = ''")
        count = cursor.fetchone()[0]
    mine = scope("W7")

    def median(work: Any) -> float:
        times = []
        for _ in range(31):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return sorted(times)[15] * 1000

    return count, median(lambda: worklist.worklist(mine, limit=50)), median(lambda: worklist.counts(mine))


def main() -> None:
    """Measure and print."""
    bench.setup()
    with bench.scratch("lianxin_bench_duty"):
        machine_of_two()
        numbers = prepare()
        last = len(numbers) - 1
        one(numbers[last - 1])
        sample = bench.captured(lambda: one(numbers[last]))
        print(f"statements per move: {len(sample)} (and BEGIN, COMMIT)")
        ours = bench.rate("duty_moves", "one", numbers[:CASES])
        variables = {
            f"take-{numbers[last]}": "pg-:n",
            str(FIRST_CASE + last): ":case",
            str(FIRST_DUTY + last): ":duty",
        }
        head = (
            f"\\set i :i + 1\n\\set n :client_id + {bench.CLIENTS} * (:i - 1)\n"
            f"\\set case {FIRST_CASE + CASES} + :n\n\\set duty {FIRST_DUTY + CASES} + :n\n"
        )
        limit = bench.pgbench(sample, variables, head, CASES)
        bench.report("move", ours, limit)
        count, listed, counted = worklist_time()
        print(
            f"worklist of 50 among {count:,} open duties: {listed:.1f} ms; counts by kind: {counted:.1f} ms"
        )


if __name__ == "__main__":
    main()
