"""Millions of registrations at once: normalised by several processes, linked set-based, written with COPY; indexes built after.

The same people come out as from registering one by one. A load that is killed leaves whole slices behind; started again it finds
those registrations known and goes on with the rest. While decisions are being written nobody else registers (they wait), because
a registration in between would be met by nobody.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from django.db import connection, transaction

from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import active, engine, links, payload, reviews, store
from lianxin.index.batch import intake, link, mending, reading, slices, statements, table, workers
from lianxin.index.batch.duck import Duck
from lianxin.index.batch.link import Linked
from lianxin.index.batch.propose import home
from lianxin.index.form import Registration
from lianxin.index.match import score
from lianxin.index.match.model import POLICY, Model
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

PART = 60_000
"""Registrations per file that one process writes in slices."""
FEW = 5_000
"""Into an index that holds people already, so few are registered one by one: nothing is gained by linking everybody."""
_UPDATES = 200


@dataclass(slots=True)
class Loaded:
    """What a load did. ``same``: known already and unchanged; ``updated``: known and changed; ``bad``: (place, reason), the first
    hundred of each share of ``refused``."""

    registrations: int = 0
    new: int = 0
    created: int = 0
    same: int = 0
    updated: int = 0
    joined: int = 0
    reviews: int = 0
    refused: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def load(
    scope: Scope,
    source: Path | str | Iterable[Registration],
    *,
    institution: Institution | None = None,
    mapping: Mapping[str, str] | None = None,
    processes: int = 2,
    memory: str = "8GB",
    told: Callable[[str], None] | None = None,
) -> Loaded:
    """Load a CSV file (as the test kit reads it) or registrations. ``institution``: who registers them all; without it the file's
    ``institution`` column names codes.

    Permission ``register_person``. Raises NotPermitted for an institution that the scope may not register for, Invalid while
    another load runs, ValueError for a file that cannot be understood.
    """
    scope.demand("register_person")
    allowed = _institutions(scope)
    if institution is not None and institution.pk not in allowed.values():
        raise NotPermitted(
            T("只能以本机构名义导入登记。", "Registrations are loaded for one's own institution.")
        )
    run = _Load(scope, processes, memory, told)
    with _alone(), table.workplace(home()) as place, run.helped():
        mending.mend()
        path = Path(source) if isinstance(source, (str, Path)) else None
        shares = (
            intake.shares_of_file(path, place)
            if path is not None
            else intake.shares_of_registrations(source, place)  # type: ignore[arg-type]
        )
        with connection.cursor() as cur:
            held = active.ready(store.plain(cur))
        setting = intake.Setting(
            allowed, institution.pk if institution else None, mapping or {}, held.generic
        )
        run.take(place, shares, setting, held)
    return run.out


def _institutions(scope: Scope) -> dict[str, int]:
    rows = Institution.objects.all()
    if not scope.everything:
        rows = rows.filter(pk__in=scope.institution_ids)
    return dict(rows.values_list("code", "pk"))


@contextmanager
def _alone() -> Iterator[None]:
    """One load at a time in the whole installation."""
    with mending.one(mending.ONE_LOAD) as free:
        if not free:
            raise Invalid(
                {"load": T("另一导入正在进行，请待其完成。", "Another load is running; wait for it.")}
            )
        yield


class _Load:
    """One load on its way through its stages."""

    def __init__(self, scope: Scope, processes: int, memory: str, told: Callable[[str], None] | None) -> None:
        self.scope, self.processes, self.memory = scope, processes, memory
        self.tell = told or (lambda word: None)
        self.out = Loaded()
        self._last = time.monotonic()
        self._pool: ProcessPoolExecutor | None = None

    @contextmanager
    def helped(self) -> Iterator[None]:
        """With helper processes, when more than one is wanted."""
        if self.processes <= 1:
            yield
            return
        with ProcessPoolExecutor(
            self.processes, mp_context=get_context("spawn"), initializer=workers.start
        ) as self._pool:
            yield

    def _done(self, stage: str) -> None:
        now = time.monotonic()
        self.out.stages[stage] = round(now - self._last, 2)
        self._last = now
        self.tell(stage)

    def _map(self, work: Callable[..., Any], items: Iterable[Any], *fixed: Any) -> Iterator[Any]:
        """``work(item, *fixed)`` in the helper processes, a few ahead; results in order."""
        if self._pool is None:
            for item in items:
                yield work(item, *fixed)
            return
        waiting: list[Any] = []
        for item in items:
            waiting.append(self._pool.submit(work, item, *fixed))
            if len(waiting) > 2 * self.processes:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()

    def take(self, place: Path, shares: Iterable[Any], setting: intake.Setting, held: active.Held) -> None:
        """All stages."""
        forms, rows, digest, count = [], [], hashlib.sha256(), 0
        for prepared in self._map(intake.prepare, shares, setting):
            self.out.refused += prepared.refused
            self.out.bad += prepared.bad
            count += 1
            if prepared.count:
                self.out.registrations += prepared.count
                forms.append(prepared.forms)
                rows.append(prepared.rows)
        self._done("normalise")
        if not rows:
            return
        duck = Duck(place, self.memory)
        try:
            duck.read("row", rows)
            duck.read("taken", forms)
            digest.update(
                str(duck.columns("SELECT CAST(sum(hash(digest)) AS VARCHAR) AS h FROM row")["h"][0]).encode()
            )
            empty = self._sort_out(duck)
            with connection.cursor() as cur:
                cur.execute("SELECT EXISTS (SELECT 1 FROM index_form)")
                people = cur.fetchone()[0]
            if people and self.out.new <= FEW:
                self._one_by_one(duck, "status <> 'same'")
                return
            if self.out.new:
                with _gate():
                    if empty:
                        mending.set_aside()
                    known = reading.forms(place, self.processes, count) if people else []
                    self._link_and_write(duck, place, known, held, digest.digest())
                    mending.mend(self.processes)
                    self._done("indexes")
            self._one_by_one(duck, "status = 'changed'")
        finally:
            duck.close()

    def _sort_out(self, duck: Duck) -> bool:
        """Table ``sorted`` (rid, status new | same | changed); whether the index knows no registration yet."""
        with connection.cursor() as cur:
            cur.execute("SELECT EXISTS (SELECT 1 FROM index_sourcerecord)")
            empty = not cur.fetchone()[0]
            wanted = duck.columns("SELECT DISTINCT institution AS i FROM row")["i"].tolist()
            held: list[Any] = []
            if not empty:
                cur.execute(
                    "SELECT institution_id, system, local_id, payload_hash FROM index_sourcerecord"
                    " WHERE institution_id = ANY(%s)",
                    [wanted],
                )
                held = cur.fetchall()
        columns: list[Any] = list(zip(*held, strict=True)) or [(), (), (), ()]
        duck.put(
            "held",
            pa.table(
                {
                    "institution": pa.array(columns[0], pa.int64()),
                    "system": pa.array(columns[1], pa.string()),
                    "local": pa.array(columns[2], pa.string()),
                    "digest": pa.array([bytes(d) for d in columns[3]], pa.binary()),
                }
            ),
        )
        duck.make(
            "sorted",
            "SELECT r.rid, CASE WHEN r.digest = coalesce(h.digest, f.digest) AND r.rid <> f.rid THEN 'same'"
            " WHEN h.digest = r.digest THEN 'same' WHEN h.digest IS NULL AND r.rid = f.rid THEN 'new'"
            " ELSE 'changed' END AS status FROM row r"
            " JOIN (SELECT institution, system, local, min(rid) AS rid, arg_min(digest, rid) AS digest FROM row"
            "  GROUP BY ALL) f USING (institution, system, local)"
            " LEFT JOIN held h USING (institution, system, local)",
        )
        found = duck.columns("SELECT status, count(*) AS n FROM sorted GROUP BY status")
        counts = dict(zip(found["status"].tolist(), found["n"].tolist(), strict=True))
        self.out.new, self.out.same = counts.get("new", 0), counts.get("same", 0)
        return empty

    def _one_by_one(self, duck: Duck, which: str) -> None:
        """Registrations that change known ones, or are few, take the way of every day."""
        found = duck.arrow(
            f"SELECT r.institution, r.system, r.local, r.patient, r.payload, s.status FROM row r JOIN sorted s USING (rid)"
            f" WHERE {which} ORDER BY rid"
        ).to_pylist()
        for part in table.chunks(found, _UPDATES):
            regs = [
                payload.unpack(r["payload"], r["institution"], r["system"], r["local"], r["patient"])
                for r in part
            ]
            with transaction.atomic(), connection.cursor() as cur:
                for row, done in zip(part, engine.register_batch(cur, self.scope, regs), strict=True):
                    self.out.created += done.created
                    self.out.updated += row["status"] == "changed"
        self._done("one by one")

    def _link_and_write(
        self, duck: Duck, place: Path, known: Sequence[Path], held: active.Held, digest: bytes
    ) -> None:
        query = "SELECT t.* FROM taken t JOIN sorted s USING (rid) WHERE s.status = 'new'"
        if known:
            duck.read("older", list(known))
            query += " UNION ALL SELECT * FROM older"
        duck.make("source", query)
        self._done("known")
        linked = link.link(duck, held.model, settled=True, told=self.tell)
        self._done("link")
        crowd = _crowd(duck, linked) - held.crowd
        joins = _plan(duck, linked)
        parts = duck.export(
            "SELECT r.*, p.label, p.pid, p.pos, p.slice, p.part FROM row r JOIN plan p USING (rid)",
            place / "parts",
            "part",
        )
        self._done("plan")
        terms = slices.Terms(
            digest,
            f"load {digest.hex()[:12]}",
            frozenset(held.crowd | crowd),
            self.scope.account_id,
            self.scope.client_id,
            reading.connecting() if self.processes > 1 else {},
        )
        _note(crowd)
        people: dict[int, int] = {}
        for written in self._map(slices.write_part, parts, terms):
            people.update(written.people)
            self.out.created += written.created
            self.tell(f"{len(people):,}")
        self._done("write")
        with transaction.atomic(), connection.cursor() as cur:
            for keep, gone in joins:
                links.join(cur, keep, gone, terms.reason)
        self.out.joined = len(joins)
        self.out.reviews = _ask(duck, linked, people, held.model)
        self.out.figures = linked.figures
        self._done("reviews")


@contextmanager
def _gate() -> Iterator[None]:
    """Nobody else registers within; those who begin meanwhile wait."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_lock(%s)", [store.GATE])
        try:
            yield
        finally:
            cur.execute("SELECT pg_advisory_unlock(%s)", [store.GATE])


def _crowd(duck: Duck, linked: Linked) -> set[int]:
    """Keys with more people behind them than tell anything, counted after the link."""
    duck.put("member", pa.table({"rid": linked.rid, "label": linked.label}))
    found = duck.columns(
        "SELECT k FROM (SELECT k, rid FROM (" + statements.KEY.format(explode=duck.explode) + ")"
        " WHERE k IN (SELECT k FROM key_crowded)) JOIN member USING (rid)"
        f" GROUP BY k HAVING count(DISTINCT label) > {POLICY['crowd']}"
    )
    duck.drop("member")
    return set(found["k"].tolist())


def _note(crowd: set[int]) -> None:
    if crowd:
        with connection.cursor() as cur:
            cur.execute(
                "INSERT INTO index_crowd (key, people, since) SELECT k, %s, %s FROM unnest(%s::int4[]) AS k"
                " ON CONFLICT DO NOTHING",
                [POLICY["crowd"] + 1, clock.now(), sorted(crowd)],
            )


def _plan(duck: Duck, linked: Linked) -> list[tuple[int, int]]:
    """Table ``plan``: for every new registration its group, the known person of the group (0: none), place, slice and part.

    Returned: known persons that new registrations prove to be one: (who stays, who goes).
    """
    low = np.argsort(linked.label, kind="stable")
    label, pid = linked.label[low], linked.pid[low]
    first = np.ones(len(label), dtype=bool)
    first[1:] = label[1:] != label[:-1]
    group = np.cumsum(first) - 1
    oldest = np.full(int(group[-1]) + 1, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(oldest, group[pid != 0], pid[pid != 0])
    oldest[oldest == np.iinfo(np.int64).max] = 0
    others = np.unique(
        np.stack([oldest[group], pid], axis=1)[(pid != 0) & (pid != oldest[group])].reshape(-1, 2), axis=0
    )
    new = pid == 0
    rid, label, group = linked.rid[low][new], label[new], group[new]
    begins = np.ones(len(group), dtype=bool)
    begins[1:] = group[1:] != group[:-1]
    starts = np.flatnonzero(begins)
    whole = starts[np.cumsum(begins) - 1]  # a person's registrations share the place where the person begins
    duck.put(
        "plan",
        pa.table(
            {
                "rid": rid,
                "label": label,
                "pid": oldest[group],
                "pos": np.arange(len(rid)),
                "slice": whole // slices.SLICE,
                "part": whole // slices.SLICE * slices.SLICE // PART,
            }
        ),
    )
    return [(int(keep), int(gone)) for keep, gone in others.tolist()]


def _ask(duck: Duck, linked: Linked, people: dict[int, int], model: Model) -> int:
    """Open the reviews of the link, with the figures that a reviewer sees."""
    at = np.searchsorted(linked.rid, np.stack([linked.left, linked.right]))
    known = {int(label): int(pid) for label, pid in zip(linked.label, linked.pid, strict=True) if pid}
    asked = 0
    for part in table.chunks(range(len(linked.left)), 2_000):
        wanted = sorted({int(r) for n in part for r in (linked.left[n], linked.right[n])})
        duck.put("wanted", pa.table({"rid": pa.array(wanted, pa.int64())}))
        forms = {
            rid: form
            for rid, _, form in table.forms_of(
                duck.arrow("SELECT * FROM source WHERE rid IN (SELECT rid FROM wanted)")
            )
        }
        questions: list[reviews.Row] = []
        for n in part:
            a, b = (_person(linked, int(at[side][n]), people, known) for side in (0, 1))
            if a == b:
                continue
            found = score.score(forms[int(linked.left[n])], forms[int(linked.right[n])], model)
            kind = linked.kinds[int(linked.kind[n])]
            questions.append((kind, a, b, None, found.bits, found.probability, found.parts, model.version))
        with transaction.atomic(), connection.cursor() as cur:
            asked += reviews.open_many(cur, questions)
    duck.drop("wanted")
    return asked


def _person(linked: Linked, row: int, people: dict[int, int], known: dict[int, int]) -> int:
    label = int(linked.label[row])
    return int(linked.pid[row]) or people.get(label) or known[label]
