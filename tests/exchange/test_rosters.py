"""Files of people in and out: encodings, columns, refusals by line, idempotence; what a cross-reference shows to whom."""

import csv
import io
import json
import random

import pytest

from lianxin.access import connections
from lianxin.access.errors import NotPermitted
from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope, scope_for_client
from lianxin.access.sharing import partners
from lianxin.exchange.ihe import domains
from lianxin.exchange.rosters import giving, reading, taking
from lianxin.index import links
from lianxin.index.models import Person, SourceRecord
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.factories import make_consortium, make_institution, make_resident_id

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM = Scope.system("test")
HEAD = "院内号,姓名,性别,出生日期,证件号,电话,住址\n"


@pytest.fixture
def world(db):
    a, b, out = (make_institution(code, "township") for code in ("RO-A", "RO-B", "RO-OUT"))
    make_consortium(a, [b])
    make_consortium(out, [make_institution("RO-X", "township")])
    yield a, b, out
    connections.close()


def write(tmp_path, text, encoding="utf-8", name="list.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def sources():
    return SourceRecord.objects.unscoped("test")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_list_is_registered_once(world, tmp_path, encoding):
    a = world[0]
    path = write(
        tmp_path,
        HEAD
        + f"1,张誠驊,男,1969-05-17,{make_resident_id()},13812345678,幸福村1号\n\n2,李四,女,19700102,,,\n",
        encoding,
    )
    report = taking.take(SYSTEM, path, a)
    assert (report.lines, report.refused, report.outcomes["new"]) == (2, 0, 2)
    assert report.columns["name"] == "姓名"
    again = taking.take(SYSTEM, path, a)
    assert again.outcomes == {"same_source": 2}
    assert sources().count() == 2
    first = sources().order_by("pk").first()
    assert (first.system, first.local_id) == ("urn:lianxin:mr:RO-A", "1")
    assert first.person.name == "张誠驊"
    assert AuditEvent.objects.filter(what="roster of RO-A").count() == 2


def test_bad_lines_are_told_by_number_and_the_rest_is_taken(world, tmp_path):
    path = write(
        tmp_path,
        HEAD
        + "1,张三,男,1969-05-17,,,\n,无号,男,,,,\n3,,女,,,,\n4,李四,女,1970-01-02,,,,多,出\n5,王五\n"
        + f"6,{'长' * 300},男,,,,\n",
    )
    report = taking.take(SYSTEM, path, world[0])
    assert [n for n, _ in report.refusals] == [3, 4, 5, 7]
    assert all(t.zh and t.en for _, t in report.refusals)
    assert sources().count() == 2


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "姓名\n张三\n", "院内号,性别\n1,男\n", b"\xff\xfe\x81\n\x00"]
)
def test_files_that_cannot_be_understood(world, tmp_path, content):
    with pytest.raises(reading.Unreadable) as refused:
        taking.take(SYSTEM, write(tmp_path, content), world[0])
    assert refused.value.text.zh
    assert refused.value.text.en


def test_columns_may_be_named(world, tmp_path):
    path = write(tmp_path, "甲,乙\n7,张三\n")
    report = taking.take(
        SYSTEM, path, world[0], mapping={"local_id": "甲", "name": "乙"}, system="urn:oid:2.999.5"
    )
    assert report.outcomes["new"] == 1
    assert sources().get().system == "urn:oid:2.999.5"


def test_only_for_ones_own_institution(world, tmp_path):
    path = write(tmp_path, HEAD + "1,张三,男,,,,\n")
    other = scope_for_client(1, "x", world[1].pk, ("system/*.cruds",))
    with pytest.raises(NotPermitted):
        taking.take(other, path, world[0])


def test_patients_as_ndjson(world, tmp_path):
    a = world[0]
    good = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:2.999.1", "value": "N1"}],
        "name": [{"text": "张三"}],
    }
    rows = [
        good,
        {**good, "identifier": []},
        {"resourceType": "Observation"},
        {**good, "birthDate": "昨天", "identifier": [{"system": "urn:oid:2.999.1", "value": "N2"}]},
    ]
    path = write(
        tmp_path,
        "\n".join([*(json.dumps(r, ensure_ascii=False) for r in rows), "{no json", ""]),
        name="p.ndjson",
    )
    report = taking.take(SYSTEM, path, a)
    assert (report.lines, report.outcomes, [n for n, _ in report.refusals]) == (5, {"new": 1}, [2, 3, 4, 5])
    assert taking.take(SYSTEM, path, a).outcomes == {"same_source": 1}
    good["name"] = [{"text": "张三丰"}]
    assert taking.take(SYSTEM, write(tmp_path, json.dumps(good), name="q.ndjson"), a).outcomes == {
        "updated": 1
    }
    assert sources().count() == 1


def test_numbers_that_are_fed_otherwise_are_left_alone(world, tmp_path):
    a = world[0]
    client = Client("ro-a", "RO-A")
    domain = domains.own_system(a.pk)
    body = {
        "resourceType": "Patient",
        "identifier": [{"system": domain, "value": "1"}],
        "name": [{"text": "张三"}],
    }
    assert client("PUT", f"Patient?identifier={domain}%7C1", body).status == 201
    report = taking.take(SYSTEM, write(tmp_path, HEAD + "1,张三,男,,,,\n2,李四,女,,,,\n"), a)
    assert report.outcomes == {"fed": 1, "new": 1}


def given(scope, **more):
    out = io.StringIO()
    giving.give(scope, out, **more)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def client_scope(institution):
    return scope_for_client(1, "x", institution.pk, ("system/*.rs",), (), partners([institution.pk]))


@pytest.fixture
def shared(world, tmp_path):
    a, b, out = world
    number = make_resident_id()
    for institution, local in ((a, "A1"), (b, "B1"), (out, "O1")):
        taking.take(
            SYSTEM,
            write(tmp_path, HEAD + f"{local},欧阳明月,男,1969-05-17,{number},13812345678,金丝雀巷\n"),
            institution,
        )
    taking.take(SYSTEM, write(tmp_path, HEAD + "B2,别家人,女,1980-01-01,,,\n"), b)
    assert Person.objects.unscoped("test").count() == 2
    return number


def test_the_cross_reference_is_masked_and_shows_what_may_be_known(world, shared):
    a, b, out = world
    lines = given(client_scope(a))
    assert {(r["institution"], r["value"]) for r in lines} == {("RO-A", "A1"), ("RO-B", "B1")}
    assert {(r["name"], r["birth_date"]) for r in lines} == {("欧**月", "1969")}
    assert {r["value"] for r in given(client_scope(out))} == {"O1"}
    assert {r["value"] for r in given(SYSTEM)} == {"A1", "B1", "O1", "B2"}
    text = str(given(SYSTEM, masked=False))
    assert "欧阳明月" in text
    assert shared not in text
    assert "13812345678" not in text
    domains.enter(domains.own_system(b.pk), b.pk, sharing=domains.OWN)
    assert {r["value"] for r in given(client_scope(a))} == {"A1"}


def test_a_delta_tells_merges_too(world, shared):
    since = clock.now()
    assert given(SYSTEM, since=since) == []
    one, other = Person.objects.unscoped("test").order_by("pk")
    links.merge(SYSTEM, one, other, "同一人")
    lines = given(SYSTEM, since=since)
    assert {(r["person_number"], r["status"], r["merged_into"]) for r in lines} == {
        (one.number, "active", ""),
        (other.number, "merged", one.number),
    }


def test_no_cell_is_a_formula(world, tmp_path):
    taking.take(SYSTEM, write(tmp_path, HEAD + '=1+1,"=HYPERLINK(""x"")",男,,,,\n'), world[0])
    assert {r["value"][0] for r in given(SYSTEM)} == {"'"}


def test_fuzz_every_file_gets_a_report_or_a_reason(world, tmp_path):
    rnd = random.Random(3)
    seeds = [
        (HEAD + '1,张三,男,1969-05-17,,,\n2,"李,四",女,,,,\n').encode(),
        b'{"resourceType":"Patient","name":[{"text":"x"}]}\n{}\n',
    ]
    for n in range(60):
        data = bytearray(rnd.choice(seeds))
        for _ in range(rnd.randint(1, 6)):
            at = rnd.randrange(len(data) + 1)
            data[at : at + rnd.choice((0, 0, 3))] = bytes(
                rnd.choice(b'",\n\r\x00\xff{}[]:;=\xd5') for _ in range(rnd.randint(1, 4))
            )
        try:
            report = taking.take(SYSTEM, write(tmp_path, bytes(data), name=f"f{n}"), world[0])
        except reading.Unreadable:
            continue
        assert report.refused == len(report.refusals)
