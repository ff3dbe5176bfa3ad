"""Some rows in one transaction: whose they are, what they become, the gate, the record, what came and what was refused.

A row is known by its source, its key and what it says: the ids of its resources follow from source and key, so that the same row again
finds them; what says the same is left alone, what says something else is the next version.  A row that cannot be taken is kept as an
arrival of its own, which can be mended and tried again; the others are one arrival (docs/decisions/0030-tables.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import psycopg
from django.db import DataError, transaction

from lianxin.access import audit, seal
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import errors, keeping, quality
from lianxin.exchange.feeds.errors import Reason
from lianxin.exchange.feeds.inbox import QUARANTINE_TOLD, Draft, Piece, Verdict
from lianxin.exchange.feeds.models import QUARANTINE, QUARANTINED, REFUSE, REFUSED, TAKEN
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.fhir import gate
from lianxin.exchange.ihe import domains
from lianxin.exchange.tables import building, stored
from lianxin.exchange.tables.building import Builder
from lianxin.exchange.tables.convert import Converted, Converter, Values
from lianxin.exchange.tables.models import TableMapping, TableSource
from lianxin.exchange.tables.people import NOBODY, People, patient_of
from lianxin.exchange.tables.reading import Row
from lianxin.exchange.tables.targets import Build, Target, target
from lianxin.record import store, validate
from lianxin.record.keys import ref_key
from lianxin.record.problems import Problem
from lianxin.record.store import Result, Write
from lianxin.standards.text import T, Text

DOOR = "table"
OTHERS = T(
    "该编号的记录已登记在另一患者名下，请核对。",
    "What bears this number stands in another patient's record; check it.",
)
TOGETHER = T(
    "同一患者的这些行合在一起未通过质控。", "Together these rows of one person did not pass the gate."
)
_STOPS = (REFUSE, QUARANTINE)
_NO_DIGEST = bytes(16)
NO_KEY = T("缺少识别该行的编号。", "The number that tells this row from others is missing.")


@dataclass
class Item:
    """One resource of a row (or of a group of rows)."""

    at: int
    build: Build
    id: str
    key: int
    resource: dict[str, Any]
    values: Values
    raw: bytes = b""
    write: Write | None = None


@dataclass
class Figures:
    """What became of rows."""

    rows: int = 0
    new: int = 0
    changed: int = 0
    same: int = 0
    refused: int = 0
    held: int = 0
    resources: int = 0


@dataclass
class Refused:
    """A row that was not taken: where, why, and how the gate called it."""

    row: Row
    cells: list[tuple[str, Text]]
    values: Values
    target: Target
    found: list[Found] = field(default_factory=list)
    held: bool = False

    @property
    def reason(self) -> Reason:
        """As the inbox keeps it."""
        if self.held:
            return Reason("quarantine", QUARANTINE_TOLD)
        column, text = self.cells[0]
        rest = [
            (self.target.columns[c].label if c in self.target.columns else T("", ""), t)
            for c, t in self.cells[1:6]
        ]
        if rest:
            text = T(
                "；".join([text.zh.rstrip("。"), *(f"{c.zh}{t.zh}".rstrip("。") for c, t in rest)]) + "。",
                " ".join([text.en, *(f"{c.en}: {t.en}" for c, t in rest)]),
            )
        return Reason("value", text, column)


@dataclass
class Taken:
    """What a chunk did: figures, the rows refused (with their arrivals once kept), what is certain only after the commit."""

    figures: Figures
    refused: list[Refused]
    arrivals: list[int | None]
    results: list[Result]
    people: Any = None


class Taker:
    """Takes rows of one source with one version of its mapping. Keep one per run: it remembers people and checked shapes."""

    def __init__(
        self, source: TableSource, mapping: TableMapping, names: Sequence[str], scope: Scope
    ) -> None:
        self.source, self.mapping, self.scope = source, mapping, scope
        self.target = target(source.target)
        self.names = list(names)
        self.converter = Converter(self.target, mapping.rules, names)
        self.builder = Builder(self.target, source.institution.code)
        system = source.system or domains.own_system(source.institution_id)
        self.people = People(source.institution_id, system, full=self.target.person == "full")
        self.organization = f"Organization/{source.institution.code}"
        self._key = seal.key("table-rows")
        self._sound: set[tuple[Any, ...]] = set()
        self.label = f"{source.target}@{mapping.version}"

    # ---------------------------------------------------------------------------------------------------------------- asking

    def check(self, cur: Any, rows: Sequence[Row]) -> tuple[Figures, list[Refused], list[Converted]]:
        """What would become of rows, the gate's word included: nothing is kept."""
        converted = [self.converter.convert(row) for row in rows]
        found = self.people.resolve(cur, converted, dry=True)
        known = {n: k for n, k in found.learned.items() if not k.patient_id.startswith(NOBODY)}
        self.people.commit(replace(found, learned=known))
        items = self._items(converted)
        self._sound_shapes(items, converted)
        items = [i for i in items if not converted[i.at].wrong]
        for item in items:
            item.write = Write("create", item.build.type, item.id, item.resource, trusted=True)
        held: dict[int, list[Found]] = {}
        writes = [*found.writes, *(i.write for i in items if i.write is not None)]
        with transaction.atomic():
            self._gate(cur, writes, items, converted, held)
            transaction.set_rollback(True)  # it remembers what it has seen
        refused = _refused(self.target, converted, held)
        figures = Figures(rows=len(rows), resources=len(items))
        figures.refused = sum(not r.held for r in refused)
        figures.held = len(refused) - figures.refused
        figures.new = figures.rows - len(refused)
        return figures, refused, converted

    def built(self, one: Converted) -> list[dict[str, Any]]:
        """The resources of a converted row, as they would be stored (for the preview)."""
        if self.target.person == "full":
            return [patient_of(one.values, self.people.system)]
        mine = self._items([one])
        made = [i.resource for i in mine]
        for build, node in self.builder.grouped:
            ids = self._ids(one.values, build.group)
            resource = node(one.values)
            for member, name in build.collect.items():
                resource[member] = [
                    {"reference": f"{i.build.type}/{i.id}"} for i in mine if i.build.name == name
                ]
            made.append({**resource, "id": ids})
        return made

    def control_id(self, values: Values, row: Row) -> str:
        """The key values by which a row is known to its sender (identity numbers as a digest)."""
        for names in self.target.key:
            if all(n in values for n in names):
                shown = [
                    seal.blind(values[n], "table-id").hex()[:16] if n == "id_no" else str(values[n])
                    for n in names
                ]
                return " ".join(shown)[:199]
        return f"row {blake2b(repr(row.cells).encode() + row.raw, digest_size=12, key=self._key).hexdigest()}"

    # ---------------------------------------------------------------------------------------------------------------- taking

    def take(self, cur: Any, rows: Sequence[Row], name: str) -> Taken:
        """Take rows in the caller's transaction; ``name`` is the control id of what they are kept as."""
        converted = [self.converter.convert(row) for row in rows]
        people = self.people.resolve(cur, converted)
        items = self._items(converted)
        self._sound_shapes(items, converted)
        items = [i for i in items if not converted[i.at].wrong]
        held: dict[int, list[Found]] = {}
        while True:
            items, statuses = self._against_record(cur, items, converted)
            items += self._groups(cur, items, converted, statuses)
            writes = [*people.writes, *(i.write for i in items if i.write is not None)]
            found = self._gate(cur, writes, items, converted, held)
            if found is not None:
                break
            items = [i for i in items if i.at not in held and not converted[i.at].wrong and not i.build.group]
        results = self._store(cur, people.writes, items, converted)
        return self._keep(cur, rows, converted, results, statuses, name, found, held, people)

    def alone(self, cur: Any, row: Row) -> tuple[list[tuple[str, Text]], list[Write], Values]:
        """One row by itself in the caller's transaction: what is wrong with it, or what is to be written."""
        converted = [self.converter.convert(row)]
        people = self.people.resolve(cur, converted)
        items = self._items(converted)
        self._sound_shapes(items, converted)
        items, statuses = self._against_record(cur, items, converted)
        items += self._groups(cur, items, converted, statuses)
        writes = [*people.writes, *(i.write for i in items if i.write is not None)]
        return converted[0].wrong, writes, converted[0].values

    def _items(self, converted: Sequence[Converted]) -> list[Item]:
        """The resources of every good row that are made of it alone; a key that comes twice counts as its last row says."""
        made: dict[int, Item] = {}
        single = self.builder.single
        for at, one in enumerate(converted):
            if one.wrong:
                continue
            values = one.values
            values["organization"] = self.organization
            ids = self._ids(values)
            if not ids:
                one.wrong.append(("", NO_KEY))
                continue
            wanted = [(b, node) for b, node in single if not b.when or any(n in values for n in b.when)]
            for build, _ in wanted:
                values[f"ref.{build.name}"] = f"{build.type}/{ids}{build.name}"[: 64 + len(build.type) + 1]
            for build, node in wanted:
                whole = values[f"ref.{build.name}"]
                resource = node(values)
                rid = whole[len(build.type) + 1 :]
                key = ref_key(whole)
                earlier = made.get(key)
                if earlier is not None and earlier.values.get("patient") != values.get("patient"):
                    one.wrong.append(("", OTHERS))
                    break
                made[key] = Item(at, build, rid, key, resource, values)
        return [i for i in made.values() if not converted[i.at].wrong]

    def _ids(self, values: Values, names: Sequence[str] = ()) -> str:
        """What ids of a row's resources begin with: a keyed digest of source and key ("" when there is no key)."""
        for place, alternative in enumerate([tuple(names)] if names else self.target.key):
            try:
                said = "\0".join([values[n] for n in alternative])
            except KeyError:
                continue
            text = f"{self.source.pk}\0{'g' if names else place}\0{said}"
            return blake2b(text.encode(), digest_size=16, key=self._key).hexdigest() + "-"
        return ""

    def _sound_shapes(self, items: Iterable[Item], converted: Sequence[Converted]) -> None:
        """Validate in full the first resource of every shape (which values a row has); the others differ in typed values only."""
        for item in items:
            shape = (item.build.name, *item.values)
            if shape in self._sound:
                continue
            try:
                validate.read(building.text_of({**item.resource, "id": item.id}))
                self._sound.add(shape)
            except Problem as problem:
                issue = problem.issues[0]
                converted[item.at].wrong.append(
                    ("", T(f"{issue.expression} {issue.text.zh}", f"{issue.expression} {issue.text.en}"))
                )

    def _against_record(
        self, cur: Any, items: list[Item], converted: Sequence[Converted]
    ) -> tuple[list[Item], dict[int, str]]:
        """Which items are new, changed, or stored so already; rows whose key stands under another patient are refused."""
        there = stored.found(cur, [i.key for i in items])
        statuses: dict[int, str] = {}
        for item in items:
            item.write = None
            raw = item.raw = item.raw or building.text_of(item.resource)
            old = there.get(item.key)
            if old is None:
                item.write = Write("create", item.build.type, item.id, item.resource, raw, trusted=True)
                statuses[item.at] = "new" if statuses.get(item.at, "new") == "new" else "changed"
                continue
            if not old.deleted and old.says(raw, item.id):
                statuses.setdefault(item.at, "same")
                continue
            if not old.deleted and old.patient() not in ("", item.values["patient"]):
                converted[item.at].wrong.append(("", OTHERS))
                continue
            item.write = Write(
                "update", item.build.type, item.id, {**item.resource, "id": item.id}, raw, trusted=True
            )
            statuses[item.at] = "changed"
        good = [i for i in items if not converted[i.at].wrong]
        return good, {at: s for at, s in statuses.items() if not converted[at].wrong}

    def _groups(
        self, cur: Any, items: Sequence[Item], converted: Sequence[Converted], statuses: dict[int, str]
    ) -> list[Item]:
        """Resources that gather rows (a report of its results), with what they gathered before."""
        made: list[Item] = []
        for build, node in self.builder.grouped:
            groups: dict[str, Item] = {}
            gathered: dict[str, dict[str, list[str]]] = {}
            for item in items:
                if not all(n in item.values for n in build.group):
                    continue
                rid = self._ids(item.values, build.group) + build.name
                groups[rid] = Item(item.at, build, rid, ref_key(f"{build.type}/{rid}"), {}, item.values)
                mine = gathered.setdefault(rid, {})
                for member, name in build.collect.items():
                    if item.build.name == name:
                        mine.setdefault(member, []).append(f"{item.build.type}/{item.id}")
            there = stored.found(cur, [g.key for g in groups.values()])
            for rid, group in groups.items():
                old = there.get(group.key)
                before = old.body() if old is not None and not old.deleted else {}
                if before and old is not None and old.patient() not in ("", group.values["patient"]):
                    converted[group.at].wrong.append(("", OTHERS))
                    continue
                resource = dict(node(group.values))
                for member, references in gathered[rid].items():
                    kept = [r["reference"] for r in before.get(member, [])]
                    resource[member] = [{"reference": r} for r in dict.fromkeys([*kept, *references])]
                group.resource, group.raw = resource, building.text_of(resource)
                method = "create" if old is None else "update"
                if old is not None and not old.deleted and old.says(group.raw, rid):
                    continue
                whole = {**resource, "id": rid} if old is not None else resource
                group.write = Write(method, build.type, rid, whole, group.raw, trusted=True)
                made.append(group)
        return made

    def _gate(
        self,
        cur: Any,
        writes: Sequence[Write],
        items: Sequence[Item],
        converted: Sequence[Converted],
        held: dict[int, list[Found]],
    ) -> list[Found] | None:
        """Ask the gate, person by person; what it stops is asked row by row, and those rows are set aside (None: begin again without)."""
        mine: dict[str, list[Item]] = {}
        for item in items:
            if item.write is not None:
                mine.setdefault(item.values["patient.id"], []).append(item)
        for write in writes:
            if write.rtype == "Patient" and write.id:
                mine.setdefault(write.id, [])
        own = {w.id: w for w in writes if w.rtype == "Patient"}
        known = self._persons(cur, list(mine))
        pairs = [self._asked(pid, some, own.get(pid), known) for pid, some in mine.items()]
        answers = quality.check_many(pairs, cur) if pairs else []
        found = [f for answer in answers for f in answer]
        stopped = [
            pid
            for pid, answer in zip(mine, answers, strict=True)
            if any(f.severity in _STOPS for f in answer)
        ]
        if not stopped:
            return found
        for pid in stopped:
            self._row_by_row(cur, pid, own.get(pid), known, items, converted, held)
        return None

    def _row_by_row(
        self,
        cur: Any,
        pid: str,
        patient: Write | None,
        known: dict[str, Result],
        items: Sequence[Item],
        converted: Sequence[Converted],
        held: dict[int, list[Found]],
    ) -> None:
        """Which rows of a person the gate stops; all of them when no row does it alone."""
        rows = [
            at
            for at, one in enumerate(converted)
            if not one.wrong and at not in held and one.values.get("patient.id") == pid
        ]
        by_row: dict[int, list[Item]] = {at: [] for at in rows}
        for item in items:
            if item.at in by_row and item.write is not None and not item.build.group:
                by_row[item.at].append(item)
        answers = quality.check_many(
            [self._asked(pid, mine, patient, known) for mine in by_row.values()], cur
        )
        stopped = {
            at: a for at, a in zip(by_row, answers, strict=True) if any(f.severity in _STOPS for f in a)
        }
        if not stopped:
            stopped = {at: [Found("together", QUARANTINE, "", TOGETHER, "consistency")] for at in rows}
        for at, answer in stopped.items():
            held[at] = answer
            refusing = next((f for f in answer if f.severity == REFUSE), None)
            if refusing is not None:
                converted[at].wrong.append((refusing.place[:60], refusing.text))

    def _asked(
        self, pid: str, items: Sequence[Item], patient: Write | None, known: dict[str, Result]
    ) -> tuple[Piece, Draft]:
        """What is asked of the gate about (some rows of) one person: what is to be stored, who it is, and who the rows say it is."""
        writes = [w for w in (patient, *(i.write for i in items)) if w is not None]
        said = patient_of(items[-1].values, self.people.system) if items else None
        results = [known[pid]] if pid in known else []
        draft = Draft(writes=writes, results=results, mapping=self.label, extra={"patient": said})
        name = items[-1].id if len(items) == 1 else ""
        return self._piece(name, b"", _NO_DIGEST), draft

    def _persons(self, cur: Any, patient_ids: list[str]) -> dict[str, Result]:
        """Who stands behind Patients that are stored, as the gate takes it."""
        cur.execute(
            "SELECT patient_id, person_id FROM record_patient WHERE subj = ANY(%s::bigint[])",
            [[ref_key(f"Patient/{pid}") for pid in patient_ids]],
            prepare=True,
        )
        now = store.moment()
        return {pid: Result(200, "Patient", pid, 1, now, "", person) for pid, person in cur.fetchall()}

    def _store(
        self, cur: Any, patients: list[Write], items: list[Item], converted: Sequence[Converted]
    ) -> list[Result]:
        """Store people first, then what is about them; a row that the record refuses is found and left out (of ``items`` too)."""
        needed = {one.values.get("patient.id") for one in converted if not one.wrong}
        results = self._people(cur, [w for w in patients if w.id in needed], converted)
        items[:] = [i for i in items if not converted[i.at].wrong]
        results += self._rows(cur, [i for i in items if i.write is not None], converted)
        items[:] = [i for i in items if not converted[i.at].wrong]
        return results

    def _people(self, cur: Any, writes: list[Write], converted: Sequence[Converted]) -> list[Result]:
        try:
            return self._apply(cur, writes)
        except _REFUSED as failure:
            if len(writes) > 1:
                half = len(writes) // 2
                return [
                    *self._people(cur, writes[:half], converted),
                    *self._people(cur, writes[half:], converted),
                ]
            for one in converted:
                if one.values.get("patient.id") == writes[0].id:
                    one.wrong.append(("name", _told(failure)))
            return []

    def _rows(self, cur: Any, items: list[Item], converted: Sequence[Converted]) -> list[Result]:
        try:
            return self._apply(cur, [i.write for i in items if i.write is not None])
        except _REFUSED as failure:
            rows = sorted({i.at for i in items})
            if len(rows) > 1:
                first = set(rows[: len(rows) // 2])
                return [
                    *self._rows(cur, [i for i in items if i.at in first], converted),
                    *self._rows(cur, [i for i in items if i.at not in first], converted),
                ]
            converted[rows[0]].wrong.append(("", _told(failure)))
            return []

    def _apply(self, cur: Any, writes: list[Write]) -> list[Result]:
        if not writes:
            return []
        with transaction.atomic():  # a savepoint: what is refused is undone alone
            return store.apply(cur, self.scope, writes, source_institution_id=self.source.institution_id)

    # --------------------------------------------------------------------------------------------------------------- keeping

    def _keep(
        self,
        cur: Any,
        rows: Sequence[Row],
        converted: Sequence[Converted],
        results: list[Result],
        statuses: dict[int, str],
        name: str,
        found: list[Found],
        held: dict[int, list[Found]],
        people: Any,
    ) -> Taken:
        """Keep what came: one arrival for the rows that were taken, one for each that was not; audit what was done."""
        good = [at for at, one in enumerate(converted) if not one.wrong and at not in held]
        refused = _refused(self.target, converted, held)
        figures = Figures(rows=len(rows), resources=len(results))
        figures.refused = sum(not r.held for r in refused)
        figures.held = len(refused) - figures.refused
        written = {r.id for r in results if r.rtype == "Patient"}
        lost = {w.id for w in people.writes} - written
        people.learned = {n: k for n, k in people.learned.items() if k.patient_id not in lost}
        for at in good:
            became = statuses.get(at) or self._of_person(converted[at], results, written)
            setattr(figures, became, getattr(figures, became) + 1)
        kept: list[keeping.Row] = []
        if results:
            taken = self._piece(name, stored.body_of(self.names, [rows[at] for at in good]))
            kept.append(keeping.Row(taken, Verdict(TAKEN, results=results, found=found), self.label))
        pieces = [
            self._piece(self.control_id(r.values, r.row), r.row.raw or stored.body_of(self.names, [r.row]))
            for r in refused
        ]
        known = keeping.known(cur, [(p.door, p.sender, p.control_id) for p in pieces]) if pieces else {}
        for one, own in zip(refused, pieces, strict=True):
            again = next(
                (k.id for k in known.get((own.door, own.sender, own.control_id), ()) if k.same == own.same and k.state != TAKEN), None
            )  # fmt: skip
            state = QUARANTINED if one.held else REFUSED
            verdict = Verdict(state, code="AA" if one.held else "AE", reason=one.reason, found=one.found)
            kept.append(keeping.Row(own, verdict, self.label, again))
        ids: list[int] = keeping.keep(cur, kept) if kept else []
        events: list[audit.Entry] = []
        for action, status in (("create", 201), ("update", 200)):
            events += gate.entries(self.scope, action, [r for r in results if r.status == status])
        if events:
            audit.append(cur, events)
        return Taken(figures, refused, list(ids[len(ids) - len(refused) :]), results, people)

    def _of_person(self, one: Converted, results: Sequence[Result], written: set[str]) -> str:
        """What became of a row about the person itself."""
        pid = one.values.get("patient.id", "")
        if any(r.id == pid and r.status == 201 for r in results):
            return "new"
        return "changed" if pid in written and self.people.full else "same"

    def _piece(self, name: str, body: bytes, same: bytes = b"") -> Piece:
        """Rows as the inbox knows them."""
        return Piece(
            DOOR, self.source.target, name, body, f"source:{self.source.pk}", self.scope, _never, same=same
        )


def _never(cur: Any) -> Draft:
    raise AssertionError  # pieces of a chunk are understood by the chunk


def _refused(
    into: Target, converted: Sequence[Converted], held: dict[int, list[Found]] | None = None
) -> list[Refused]:
    out = []
    for at, one in enumerate(converted):
        found = (held or {}).get(at, [])
        if one.wrong:
            out.append(Refused(one.row, one.wrong, one.values, into, found))
        elif found:
            out.append(Refused(one.row, [("", found[0].text)], one.values, into, found, held=True))
    return out


_REFUSED = (Problem, AccessError, DataError, psycopg.DataError)


def _told(failure: Exception) -> Text:
    return errors.reason_of(DataError() if isinstance(failure, psycopg.DataError) else failure).text


__all__ = ["DOOR", "Figures", "Refused", "Taken", "Taker"]
