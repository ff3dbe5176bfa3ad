"""Runs: exactly once whatever happens, refused rows kept and mended, watermarks that move with the commit."""

from __future__ import annotations

import datetime as dt
import sqlite3
import threading

import pytest
import sqlalchemy as sa
from django.db import connection, connections
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql

from lianxin.access import connections as own_connections
from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import inbox, quality
from lianxin.exchange.feeds.models import DROPPED, QUARANTINED, REFUSED, TAKEN, Arrival
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.tables import by_hand, chunks, database, door, files, mappings, running, schedule
from lianxin.exchange.tables.models import DONE, FAILED, RUNNING, STOPPED, TableChunk, TableRun, TableSource
from lianxin.exchange.tables.reading import Unreadable
from lianxin.index.models import Person
from lianxin.record import search
from lianxin.standards import clock
from lianxin.standards.text import T
from tests.factories import make_institution, make_resident_id

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM = Scope.system("test")
HEAD = "报告单号,病案号,姓名,项目代码,项目名称,结果,单位,报告时间\n"


@pytest.fixture
def hospital(db, settings, tmp_path):
    settings.HOME = tmp_path
    door.register()
    yield make_institution("TB-A", "hospital")
    own_connections.close()


def lines(n=6, start=0, result="6.20"):
    return "".join(
        f"R{i // 3},P{i // 3},试用{i // 3},X{i % 3},项目{i % 3},{result},mmol/L,2026-01-05 10:00\n"
        for i in range(start, start + n)
    )


def feed(hospital, tmp_path, text, name="检验", code="lab", encoding="utf-8", **more):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    run = by_hand.prepared(path, hospital, code, name, more.pop("chosen", None), **more)
    for lane in range(run.lanes):
        running.run_lane(run.pk, lane)
    run.refresh_from_db()
    return run, running.figures_of(run)


def numbers(figures):
    return figures.rows, figures.new, figures.changed, figures.same, figures.refused


def stored(rtype):
    with connection.cursor() as cur:
        cur.execute(
            "SELECT count(*), coalesce(max(version), 0) FROM record_resource WHERE rtype = %s AND NOT deleted",
            [rtype],
        )
        return cur.fetchone()


def bodies(rtype):
    from lianxin.record import rows, text

    with connection.cursor() as own:
        page = search.search(rows.server_cursor(own), SYSTEM, rtype, [("_count", "100")])
    return [text.parse(r.body.encode()) for r in page.entries]


def test_rows_become_resources_once(hospital, tmp_path):
    run, figures = feed(hospital, tmp_path, HEAD + lines())
    assert run.state == DONE
    assert numbers(figures) == (6, 6, 0, 0, 0)
    assert figures.resources == 6 + 2 + 2
    reports = bodies("DiagnosticReport")
    assert sorted(len(r["result"]) for r in reports) == [3, 3]
    one = bodies("Observation")[0]
    assert one["valueQuantity"]["code"] == "mmol/L"
    assert one["effectiveDateTime"] == "2026-01-05T10:00:00+08:00"
    assert b'"value":6.20' in raw_of("Observation")
    assert Person.objects.unscoped("test").count() == 2
    arrival = Arrival.objects.get()
    assert (arrival.door, arrival.state, arrival.sender) == ("table", TAKEN, f"source:{run.source_id}")
    assert len(arrival.resources) == 10
    assert b"R0,P0" in inbox.body_of(arrival)
    _again, figures = feed(hospital, tmp_path, HEAD + lines())
    assert numbers(figures) == (6, 0, 0, 6, 0)
    assert Arrival.objects.count() == 1
    assert stored("Observation") == (6, 1)
    assert (
        AuditEvent.objects.filter(person__isnull=False, action="create").exists()
        if hasattr(AuditEvent, "person")
        else True
    )


def raw_of(rtype):
    from lianxin.record import bodies as packed

    with connection.cursor() as cur:
        cur.execute("SELECT body FROM record_resource WHERE rtype = %s LIMIT 1", [rtype])
        return packed.unpack(bytes(cur.fetchone()[0]))


def test_a_changed_row_is_the_next_version_and_a_report_keeps_its_results(hospital, tmp_path):
    feed(hospital, tmp_path, HEAD + lines(2))
    _, figures = feed(hospital, tmp_path, HEAD + lines(1, result="7.1") + lines(1, start=2))
    assert numbers(figures) == (2, 1, 1, 0, 0)
    assert stored("Observation") == (3, 2)
    report = bodies("DiagnosticReport")[0]
    assert len(report["result"]) == 3


def test_the_patient_is_one_whatever_the_table(hospital, tmp_path):
    number = make_resident_id()
    roster = f"院内号,姓名,性别,身份证号,出生日期\nP0,试用0,男,{number},1969-05-17\n"
    _run, figures = feed(hospital, tmp_path, roster, "名册", "resident")
    assert numbers(figures) == (1, 1, 0, 0, 0)
    feed(hospital, tmp_path, HEAD + lines(3))
    assert stored("Patient") == (1, 1)
    assert Person.objects.unscoped("test").count() == 1
    _, figures = feed(hospital, tmp_path, roster.replace("男", "1"), "名册", "resident")
    assert numbers(figures) == (1, 0, 0, 1, 0)
    _, figures = feed(
        hospital,
        tmp_path,
        roster.replace("出生日期\n", "出生日期,电话\n").replace("17\n", "17,13800000000\n"),
        "名册",
        "resident",
        chosen={"phone": "电话"},
    )
    assert numbers(figures) == (1, 0, 1, 0, 0)
    assert stored("Patient") == (1, 2)
    by_card = HEAD.replace("病案号", "身份证号") + lines(3).replace("P0", number)
    _, figures = feed(hospital, tmp_path, by_card, "按证件")
    assert figures.refused == 0
    assert stored("Patient")[0] == 1


def test_a_number_of_somebody_else_is_not_believed(hospital, tmp_path):
    feed(hospital, tmp_path, HEAD + lines(3))
    _, figures = feed(hospital, tmp_path, HEAD + lines(3).replace("试用0", "别人").replace("R0", "R9"))
    assert (figures.refused, figures.new) == (3, 0)
    _, figures = feed(hospital, tmp_path, HEAD + lines(3).replace("P0", "P7").replace("试用0", "别人"))
    assert figures.refused == 3  # the report stands in another patient's record
    assert stored("Patient")[0] == 1
    assert stored("Observation") == (3, 1)


def test_bad_rows_do_not_stop_the_rest_and_are_mended(hospital, tmp_path):
    text = (
        HEAD
        + lines(3)
        + "R7,P7,试用7,X1,项目,,mmol/L,2026-01-05\nR8,P8,试用8,X1,项目,1,mmol/L,昨天\n"
        + "R9,P9\n"
        + lines(3, start=3)
    )
    run, figures = feed(hospital, tmp_path, text)
    assert numbers(figures) == (9, 6, 0, 0, 3)
    assert [(r.row, r.column) for r in run.refusals.order_by("row")] == [
        (5, "result"),
        (6, "reported_at"),
        (7, ""),
    ]
    kept = Arrival.objects.filter(state=REFUSED).order_by("pk")
    assert [a.control_id for a in kept][:2] == ["R7 X1", "R8 X1"]
    _again, figures = feed(hospital, tmp_path, text)  # the same refused rows again are one with those kept
    assert figures.refused == 3
    assert Arrival.objects.filter(state=REFUSED).count() == 3
    assert Arrival.objects.get(pk=kept[0].pk).attempts == 2
    assert inbox.replay(kept[1].pk).state == REFUSED
    verdict = door.mend(SYSTEM, kept[1], ["R8", "P8", "试用8", "X1", "项目", "1", "mmol/L", "2026-01-04"])
    assert verdict.state == TAKEN
    assert Arrival.objects.get(pk=kept[1].pk).state == DROPPED
    assert stored("Observation")[0] == 7
    assert len(bodies("DiagnosticReport")) == 3
    _, figures = feed(hospital, tmp_path, HEAD + "R8,P8,试用8,X1,项目,1,mmol/L,2026-01-04\n")
    assert numbers(figures) == (1, 0, 0, 1, 0)  # mended is known, by whichever way it comes


def test_a_replay_uses_the_mapping_in_use_now(hospital, tmp_path):
    text = HEAD.replace("单位", "报告状态") + "R1,P1,试用1,X1,项目,1,已发出,2026-01-05\n"
    run, figures = feed(hospital, tmp_path, text)
    assert figures.refused == 1
    arrival = Arrival.objects.get()
    rules = mappings.in_use(run.source).rules
    draft = mappings.save(SYSTEM, run.source, {**rules, "values": {"state": {"已发出": "final"}}})
    assert mappings.in_use(run.source).version == 1
    mappings.activate(SYSTEM, draft)
    verdict = inbox.replay(arrival.pk)
    assert verdict.state == TAKEN
    assert Arrival.objects.get().mapping == "lab@2"
    assert inbox.replay(arrival.pk).repeated
    assert stored("Observation") == (1, 1)


def test_a_dry_run_writes_nothing_but_what_it_found(hospital, tmp_path):
    run, figures = feed(hospital, tmp_path, HEAD + lines() + "R9,,,X,项目,1,,2026-01-05\n", dry=True)
    assert numbers(figures) == (7, 6, 0, 0, 1)
    assert run.refusals.get().column == "patient_no"
    assert not Arrival.objects.exists()
    assert stored("Patient")[0] == 0
    assert not Person.objects.unscoped("test").exists()


def test_a_run_that_died_goes_on_behind_its_last_chunk(hospital, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 2)
    real, seen = chunks.Taker.take, []

    def dies(self, cur, rows, name):
        seen.append(rows[0].number)
        done = real(self, cur, rows, name)
        if len(seen) == 3:
            raise KeyboardInterrupt  # killed with everything of the chunk written, before its commit
        return done

    monkeypatch.setattr(chunks.Taker, "take", dies)
    path = tmp_path / "table.csv"
    path.write_text(HEAD + lines(9))
    run = by_hand.prepared(path, hospital, "lab", "检验")
    with pytest.raises(KeyboardInterrupt):
        running.run_lane(run.pk)
    assert TableRun.objects.get().state == RUNNING
    assert stored("Observation")[0] == 4
    monkeypatch.setattr(chunks.Taker, "take", real)
    assert running.turn()
    assert not running.turn()
    figures = running.figures_of(run)
    assert numbers(figures) == (9, 9, 0, 0, 0)
    assert stored("Observation") == (9, 1)
    assert sorted(TableChunk.objects.filter(number__gte=0).values_list("first", "last")) == [
        (2, 3),
        (4, 5),
        (6, 7),
        (8, 9),
        (10, 10),
    ]


def test_stop_and_resume(hospital, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 3)
    real = running.chunk_of

    def stops(run, lane, number, part, taker):
        running.ask_to_stop(run)
        return real(run, lane, number, part, taker)

    monkeypatch.setattr(running, "chunk_of", stops)
    run, figures = feed(hospital, tmp_path, HEAD + lines(9))
    assert run.state == STOPPED
    assert figures.rows == 3
    monkeypatch.setattr(running, "chunk_of", real)
    assert running.resume(run)
    assert not running.resume(run)
    running.drain()
    assert numbers(running.figures_of(run)) == (9, 9, 0, 0, 0)


def test_a_wrong_mapping_stops_the_run_by_itself(hospital, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 20)
    monkeypatch.setattr(running, "SUSPICIOUS", 20)
    run, figures = feed(hospital, tmp_path, HEAD + lines(60).replace("2026-01-05 10:00", "x"))
    assert run.state == STOPPED
    assert figures.rows == 20
    assert run.error_zh
    running.resume(run)
    running.drain()
    assert running.figures_of(run).rows == 60


def test_lanes_share_a_file_and_the_order_of_a_persons_rows(hospital, tmp_path):
    path = tmp_path / "table.csv"
    twice = lines(30) + lines(30, result="8.8")
    path.write_text(HEAD + twice)
    run = by_hand.prepared(path, hospital, "lab", "检验", lanes=2)
    failures = []

    def work(lane):
        try:
            running.run_lane(run.pk, lane)
        except Exception as failure:
            failures.append(failure)
        finally:
            connections.close_all()
            own_connections.close()

    threads = [
        threading.Thread(target=work, args=(lane % 2,)) for lane in range(4)
    ]  # two for each lane: one of them has nothing to do
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    running.drain()
    run.refresh_from_db()
    assert run.state == DONE
    assert running.figures_of(run).rows == 60
    assert {o["valueQuantity"]["value"] for o in bodies("Observation")} == {8.8}
    assert stored("Observation")[0] == 30


def test_one_run_of_a_source_at_a_time(hospital, tmp_path):
    from django.db import IntegrityError

    path = tmp_path / "table.csv"
    path.write_text(HEAD + lines(3))
    by_hand.prepared(path, hospital, "lab", "检验")
    with pytest.raises(IntegrityError):
        by_hand.prepared(path, hospital, "lab", "检验")


def test_what_the_gate_holds_is_kept_apart(hospital, tmp_path, monkeypatch):
    def check_many(pairs, cur):
        out = []
        for _, draft in pairs:
            values = [
                w.resource.get("valueQuantity", {}).get("value")
                for w in draft.writes
                if w.rtype == "Observation"
            ]
            severity = (
                "refuse" if 99 in values else "quarantine" if 88 in values else "warn" if 77 in values else ""
            )
            out.append(
                [Found("t", severity, "Observation.value", T("不可信", "odd"), "validity")]
                if severity
                else []
            )
        return out

    monkeypatch.setattr(quality, "check_many", check_many)
    monkeypatch.setattr(quality, "check", lambda piece, draft, cur: check_many([(piece, draft)], cur)[0])
    text = HEAD + lines(1) + lines(1, 1, "99") + lines(1, 2, "88") + lines(1, 3, "77") + lines(1, 4)
    _run, figures = feed(hospital, tmp_path, text)
    assert (figures.new, figures.refused, figures.held) == (3, 1, 1)
    assert stored("Observation")[0] == 3
    held = Arrival.objects.get(state=QUARANTINED)
    assert held.findings.count() == 1
    assert Arrival.objects.get(state=TAKEN).findings.get().severity == "warn"
    assert Arrival.objects.get(state=REFUSED).findings.get().severity == "refuse"
    assert inbox.replay(held.pk).state == QUARANTINED
    assert inbox.replay(held.pk, release=True).state == TAKEN
    assert stored("Observation")[0] == 4


def test_a_row_the_database_does_not_take_is_found(hospital, tmp_path, monkeypatch):
    from lianxin.record import store
    from lianxin.record.problems import refuse

    real = store.apply

    def apply(cur, scope, writes, **more):
        for write in writes:
            if write.rtype == "Observation" and write.resource["valueQuantity"]["value"] == 13:
                raise refuse(422, "value", "不合", "no")
        return real(cur, scope, writes, **more)

    monkeypatch.setattr(store, "apply", apply)
    _, figures = feed(hospital, tmp_path, HEAD + lines(5) + lines(1, 5, "13") + lines(2, 6))
    assert numbers(figures) == (8, 7, 0, 0, 1)
    assert stored("Observation")[0] == 7


def test_a_damaged_file_is_told(hospital, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(HEAD + lines(3))
    run = by_hand.prepared(path, hospital, "lab", "检验")
    kept = files.folder() / run.stored
    data = bytearray(kept.read_bytes())
    data[-3] ^= 1
    kept.write_bytes(data)
    running.run_lane(run.pk)
    run.refresh_from_db()
    assert run.state == FAILED
    assert run.error_zh
    assert b"R0" not in kept.read_bytes()  # sealed


# ------------------------------------------------------------------------------------------------------------------- views


def lite(
    path, rows, columns="bgdh TEXT, brid TEXT, xm TEXT, xmdm TEXT, jyjg TEXT, bgsj TIMESTAMP, gxsj TIMESTAMP"
):
    db = sqlite3.connect(path)
    db.execute(f"CREATE TABLE IF NOT EXISTS v_lab ({columns})")
    db.executemany("INSERT INTO v_lab VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    db.commit()
    db.close()


def line(n, at, result="1"):
    return (f"R{n}", f"P{n}", f"试用{n}", "X", result, "2026-01-05 08:00:00", at)


def read_now(source):
    source.refresh_from_db()
    run = schedule.start(source)
    running.run_lane(run.pk)
    run.refresh_from_db()
    source.refresh_from_db()
    return run, running.figures_of(run)


def test_a_view_is_read_from_its_watermark(hospital, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 2)
    path = tmp_path / "his.db"
    lite(
        path,
        [
            line(1, "2026-01-05 09:00:00"),
            line(2, "2026-01-05 09:00:00"),
            line(3, "2026-01-05 09:00:00"),
            line(4, None),
        ],
    )
    source = by_hand.view(
        hospital, f"sqlite:///{path}", "v_lab", "lab", "视图", mark="gxsj", overlap=0, every=60
    )
    run, figures = read_now(source)
    assert run.state == DONE
    assert numbers(figures) == (3, 3, 0, 0, 0)
    assert source.mark == "2026-01-05T09:00:00"
    lite(path, [line(5, "2026-01-05 09:00:00"), line(6, "2026-01-05 10:30:00")])
    _, figures = read_now(source)  # a tie with the mark is not lost
    assert numbers(figures) == (5, 2, 0, 3, 0)
    assert source.mark == "2026-01-05T10:30:00"
    lite(path, [line(7, "2026-01-05 10:00:00")])
    _, figures = read_now(source)
    assert figures.new == 0
    TableSource.objects.update(overlap=3600)
    _, figures = read_now(source)  # late by less than the overlap
    assert figures.new == 1
    assert source.mark == "2026-01-05T10:30:00"
    assert stored("Observation") == (6, 1)


def test_the_watermark_moves_only_with_the_commit(hospital, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 1)
    path = tmp_path / "his.db"
    lite(path, [line(n, f"2026-01-05 09:00:0{n}") for n in range(1, 5)])
    source = by_hand.view(hospital, f"sqlite:///{path}", "v_lab", "lab", "视图", mark="gxsj", overlap=0)
    real, count = chunks.Taker.take, []

    def dies(self, cur, rows, name):
        done = real(self, cur, rows, name)
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(chunks.Taker, "take", dies)
    run = schedule.start(source)
    with pytest.raises(KeyboardInterrupt):
        running.run_lane(run.pk)
    source.refresh_from_db()
    assert source.mark == "2026-01-05T09:00:02"
    assert stored("Observation")[0] == 2
    monkeypatch.setattr(chunks.Taker, "take", real)
    running.drain()
    run.refresh_from_db()
    assert run.state == DONE
    assert stored("Observation") == (4, 1)


def test_a_view_that_vanished_or_lost_a_column_fails_with_a_reason_and_waits(hospital, tmp_path):
    path = tmp_path / "his.db"
    lite(path, [line(1, "2026-01-05 09:00:00")])
    source = by_hand.view(hospital, f"sqlite:///{path}", "v_lab", "lab", "视图", mark="gxsj", every=60)
    read_now(source)
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE v_lab RENAME COLUMN jyjg TO jg2")
    db.commit()
    run, _ = read_now(source)
    assert run.state == FAILED
    assert "jyjg" in run.error_zh
    assert source.failures == 1
    db.execute("DROP TABLE v_lab")
    db.commit()
    db.close()
    run, _ = read_now(source)
    assert "v_lab" in run.error_zh
    assert source.failures == 2
    assert source.not_before > clock.now()
    assert schedule.due() == []
    TableSource.objects.update(not_before=clock.now() - dt.timedelta(seconds=1))
    assert len(schedule.due()) == 1
    assert schedule.due() == []


def test_a_view_in_postgresql_is_streamed_read_only(hospital):
    settings = connection.settings_dict
    host = settings["HOST"] or "localhost"
    url = sa.engine.URL.create(
        "postgresql+psycopg", settings["USER"], settings["PASSWORD"] or None, None, None, settings["NAME"],
        query={"host": host} if host.startswith("/") else {},
    )  # fmt: skip
    if not host.startswith("/"):
        url = url.set(host=host, port=int(settings["PORT"] or 5432))
    with connection.cursor() as cur:
        cur.execute('CREATE SCHEMA IF NOT EXISTS "His 库"')
        cur.execute(
            'CREATE TABLE IF NOT EXISTS "His 库"."检验 ""表"""(bgdh text, brid text, xm text, xmdm text, jyjg numeric(8,2), bgsj timestamptz, id bigint)'
        )
        cur.execute('DELETE FROM "His 库"."检验 ""表"""')
        cur.execute(
            "INSERT INTO \"His 库\".\"检验 \"\"表\"\"\" SELECT 'R' || n, 'P' || n, '试用' || n, 'X', n / 4.0, now() - interval '1 day', n FROM generate_series(1, 7) n"
        )
    try:
        source = TableSource(
            institution=hospital,
            name="PG",
            target="lab",
            kind="sql",
            view='His 库.检验 "表"',
            overlap=2,
            created_at=clock.now(),
        )
        database.keep_address(source, url)
        with database.connected(source) as open_connection:
            assert [c.mark for c in database.look(open_connection, source.view)][-2:] == ["time", "number"]
            with pytest.raises(sa.exc.SQLAlchemyError):
                open_connection.execute(sa.text('DELETE FROM "His 库"."检验 ""表"""'))
            open_connection.rollback()
        source.mark_column, source.mark_kind = "id", "number"
        source.save()
        layout = by_hand.Layout("sql", ["bgdh", "brid", "xm", "xmdm", "jyjg", "bgsj", "id"], 0)
        by_hand._use(source, by_hand._target("lab"), layout, None)
        _, figures = read_now(source)
        assert numbers(figures) == (7, 7, 0, 0, 0)
        assert source.mark == "7"
        assert 1.75 in {o["valueQuantity"]["value"] for o in bodies("Observation")}
        _, figures = read_now(source)
        assert numbers(figures) == (3, 0, 0, 3, 0)
    finally:
        with connection.cursor() as cur:
            cur.execute('DROP SCHEMA "His 库" CASCADE')


def test_the_statement_of_every_database(hospital):
    source = TableSource(
        institution=hospital,
        name="x",
        target="lab",
        kind="sql",
        view='dbo.v"lab; DROP TABLE x',
        mark_column="更新时间",
    )
    query = database.select(source, ["报告单号", 'a"b', "jg"], dt.datetime(2026, 1, 5))
    for dialect, quoted in (
        (mssql.dialect(), "["),
        (mysql.dialect(), "`"),
        (oracle.dialect(), '"'),
        (postgresql.dialect(), '"'),
    ):
        text = str(query.compile(dialect=dialect))
        assert text.startswith("SELECT")
        assert "ORDER BY" in text
        assert ">=" in text
        assert quoted in text
        assert "2026" not in text  # values are bound
        assert "DROP TABLE x" in text.split("FROM")[1].split("WHERE")[0]  # only as a quoted name
    assert "IS NOT NULL" in str(database.select(source, ["jg"]))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////etc/passwd", "postgresql://u:p@127.0.0.1/x", "mysql://u:p@localhost/x", "postgresql://u:p@[::1]/x", "postgresql:///x",
        "mysql://u:p@10.1.2.3/x?read_default_file=/etc/passwd", "mysql://u:p@169.254.169.254/x", "mongodb://x/y", "nonsense", "",
        "postgresql://u:p@10.1.2.3/x?options=-c%20x", "mssql+pyodbc://u:p@10.1.2.3/x?odbc_connect=abc",
    ],
)  # fmt: skip
def test_addresses_that_are_not_taken(url):
    with pytest.raises(Unreadable) as failure:
        database.address(url)
    assert failure.value.text.en


def test_addresses_are_sealed_and_their_drivers_ours(hospital):
    for given, driver in (("mysql://u:geheim@10.1.2.3/x", "mysql+pymysql"), ("mssql+pyodbc://u:geheim@10.1.2.3/x", "mssql+pymssql"),
                          ("oracle://u:geheim@10.1.2.3/?service_name=his", "oracle+oracledb"), ("postgres+psycopg2://u:geheim@10.1.2.3/x", "postgresql+psycopg")):  # fmt: skip
        url = database.address(given)
        assert url.drivername == driver
        source = TableSource(institution=hospital, name="x", target="lab", kind="sql", view="v")
        database.keep_address(source, url)
        assert "geheim" not in source.shown
        assert "geheim" not in source.url
        assert database.engine_of(url).dialect.name == driver.partition("+")[0]
