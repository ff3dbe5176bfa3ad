"""Tables from a terminal or a benchmark: a source with a mapping in use and a run of it, without any page."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from django.db import connections

from lianxin.access.scope import Scope
from lianxin.exchange import load_worker
from lianxin.exchange.tables import database, files, lane, mappings, reading, recognise, running
from lianxin.exchange.tables.models import SQL, TableRun, TableSource
from lianxin.exchange.tables.reading import Layout, Unreadable
from lianxin.exchange.tables.targets import Target, targets
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

_SCOPE = Scope.system("tables by command")


def _target(code: str) -> Target:
    if code not in targets():
        raise Unreadable(T("没有“{c}”这种表格。", "There is no kind of table called {c}.").format(c=code))
    return targets()[code]


def prepared(
    path: Path,
    institution: Institution,
    code: str = "",
    name: str = "",
    chosen: dict[str, str] | None = None,
    *,
    dry: bool = False,
    lanes: int = 1,
) -> TableRun:
    """A run of a file that waits; :class:`Unreadable` for a file or mapping that cannot be used. ``chosen``: target column -> file's."""
    with path.open("rb") as file:
        into = _target(code) if code else None
        words = into.known() if into else {w for t in targets().values() for w in t.known()}
        layout = reading.look(file, list(words))
    into = into or recognise.guess(layout.columns)
    source, _ = TableSource.objects.get_or_create(
        institution=institution, name=name or str(into.name.zh), defaults={"target": into.code, "created_at": clock.now()}
    )  # fmt: skip
    if source.target != into.code:
        raise Unreadable(T("该来源是另一种表格。", "The source is another kind of table."))
    _use(source, into, layout, chosen)
    with path.open("rb") as file:
        stored, size = files.keep(iter(lambda: file.read(files.BLOCK), b""))
    mapping = mappings.in_use(source)
    assert mapping is not None
    return running.begin(
        TableRun(
            source=source,
            mapping=mapping,
            stored=stored,
            size=size,
            filename=path.name[:200],
            dry=dry,
            lanes=lanes,
        )
    )


def _use(source: TableSource, into: Target, layout: Layout, chosen: dict[str, str] | None) -> None:
    """Put a mapping in use unless the one in use fits: columns by their names, those of ``chosen`` first."""
    held = mappings.in_use(source)
    if held is not None and not chosen and set(held.rules["columns"].values()) <= set(layout.columns):
        return
    rules = recognise.rules(into, layout)
    for field, column in (chosen or {}).items():
        rules["columns"] = {f: c for f, c in rules["columns"].items() if c != column}
        rules["columns"][field] = column
    wrong = recognise.problems(into, rules, layout.columns) or recognise.lacking(into, rules)
    if wrong:
        raise Unreadable(T("".join(t.zh for t in wrong), " ".join(t.en for t in wrong)))
    mappings.activate(_SCOPE, mappings.save(_SCOPE, source, rules))


def do(run: TableRun) -> None:
    """Do a run to its end, each of its lanes in a process of its own when there are several."""
    if run.lanes == 1:
        running.run_lane(run.pk)
        return
    connections.close_all()  # a connection is not shared with the processes
    with ProcessPoolExecutor(
        run.lanes, mp_context=get_context("spawn"), initializer=load_worker.start
    ) as workers:
        list(workers.map(lane.work, [run.pk] * run.lanes, range(run.lanes)))


def view(
    institution: Institution, url: str, view: str, code: str, name: str, *, mark: str = "", overlap: int = 3600, every: int = 0,
    chosen: dict[str, str] | None = None,
) -> TableSource:  # fmt: skip
    """A view as a source, its mapping in use; addresses of this machine and SQLite files are allowed here."""
    into = _target(code)
    source = TableSource(
        institution=institution, name=name, target=into.code, kind=SQL, view=view, overlap=overlap, every=every, created_at=clock.now()
    )  # fmt: skip
    database.keep_address(source, database.address(url, local=True))
    with database.connected(source) as connection:
        columns = database.look(connection, view)
    if mark:
        found = next((c for c in columns if c.name.casefold() == mark.casefold()), None)
        if found is None or not found.mark:
            raise Unreadable(
                T(
                    "视图没有这个水位列，或它不是时间也不是整数。",
                    "The view has no such watermark column, or it is neither a time nor a whole number.",
                )
            )
        source.mark_column, source.mark_kind = found.name, found.mark
    source.save()
    _use(source, into, Layout("sql", [c.name for c in columns], 0), chosen)
    return source
