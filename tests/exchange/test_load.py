"""The bulk loader: what it takes and refuses, that it is done once, and that a kill in the middle costs nothing."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from django.conf import settings
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.exchange import load
from lianxin.exchange.models import DeadLetter, LoadRun
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.record import rows, search, timeline

SYSTEM = Scope.system("test")
DOCTOR = {
    "resourceType": "Practitioner",
    "id": "d1",
    "identifier": [{"system": "urn:x", "value": "1"}],
    "name": [{"text": "李医生"}],
}


@pytest.fixture
def hospital(db):
    return Institution.objects.create(code="L1", name="县医院", kind="hospital", tier="county")


def patient(i):
    return {
        "resourceType": "Patient",
        "id": f"p{i}",
        "name": [{"text": f"测试{'甲乙丙丁戊己庚辛壬癸'[i % 10]}{i}"}],
        "gender": "male",
        "birthDate": f"1950-01-{1 + i % 28:02}",
    }


def weight(i, n, subject=None):
    return {"resourceType": "Observation", "id": f"o{i}-{n}", "status": "final", "code": {"coding": [{"code": "29463-7"}]}, "subject": {"reference": subject or f"Patient/p{i}"},
            "performer": [{"reference": "urn:uuid:d1"}], "effectiveDateTime": "2026-01-01", "valueQuantity": {"value": 60 + n}}  # fmt: skip


def transaction(*resources):
    entries = [
        {
            "fullUrl": f"urn:uuid:{r['id']}",
            "resource": r,
            "request": {"method": "POST", "url": r["resourceType"]},
        }
        for r in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def count(rtype, *pairs):
    with connection.cursor() as own:
        return search.search(rows.server_cursor(own), SYSTEM, rtype, [*pairs, ("_summary", "count")]).total


def test_every_kind_of_file_in_the_right_order_and_once(hospital, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("1-person.json", json.dumps(transaction(weight(1, 1, "urn:uuid:p1"), patient(1))))
        archive.writestr("2-practitionerInformation.json", json.dumps(transaction(DOCTOR)))
    lines = "\n".join(json.dumps(r, ensure_ascii=False) for r in (weight(2, 1), patient(2)))
    (tmp_path / "two.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "three.json").write_text(json.dumps(patient(3)))
    report = load.load([tmp_path], institution="L1")
    assert (report.accepted, report.refused, report.unresolved, report.members) == (6, 0, 0, 4), (
        report.refusals
    )
    assert count("Observation", ("performer", "Practitioner/d1")) == 2
    assert count("Observation", ("patient", "p1")) == 1
    again = load.load([tmp_path], institution="L1")
    assert (again.accepted, again.skipped) == (0, 4)
    (tmp_path / "three.json").write_text(json.dumps(patient(3), indent=1))
    assert load.load([tmp_path / "three.json"], institution="L1").accepted == 1
    assert count("Patient") == 3


def test_bad_files_become_dead_letters_that_can_be_replayed(hospital, tmp_path):
    bad = {**weight(1, 1), "status": "nonsense"}
    (tmp_path / "a.json").write_text(json.dumps(transaction(patient(1), bad)))
    (tmp_path / "b.ndjson").write_text(
        "\n".join(json.dumps(r) for r in (patient(2), weight(9, 1), weight(2, 1)))
    )
    (tmp_path / "c.json").write_bytes(b'{"resourceType":')
    (tmp_path / "d.zip").write_bytes(b"no zip")
    report = load.load([tmp_path], institution="L1")
    assert (report.accepted, report.refused) == (2, 2 + 1 + 1 + 1)
    letters = {d.name: d for d in DeadLetter.objects.all()}
    assert letters["a.json"].expression == "Bundle.entry[1].resource.Observation.status"
    assert letters["b.ndjson#line[2]"].code == "not-found"
    assert json.loads(bytes(letters["b.ndjson#line[2]"].payload))["id"] == "o9-1"
    assert letters["a.json"].reason_zh
    assert letters["a.json"].reason_en
    (tmp_path / "e.json").write_text(json.dumps(patient(9)))
    load.load([tmp_path / "e.json"], institution="L1")
    report = load.replay([d.pk for d in letters.values()])
    assert report.accepted == 1
    assert DeadLetter.objects.filter(replayed_at__isnull=False).count() == 1
    assert count("Observation", ("patient", "p9")) == 1


def test_two_institutions_with_the_same_ids_keep_their_own(hospital, tmp_path):
    Institution.objects.create(code="L2", name="另一医院", kind="hospital", tier="county")
    (tmp_path / "a.json").write_text(json.dumps(transaction(patient(1), weight(1, 1, "urn:uuid:p1"))))
    assert load.load([tmp_path], institution="L1").accepted == 2
    assert load.load([tmp_path], institution="L2").accepted == 2
    assert count("Patient") == count("Observation") == 2
    assert count("Observation", ("patient", "p1")) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.concurrency
def test_killed_in_the_middle_and_run_again(hospital, tmp_path):
    for m in range(12):
        resources = [patient(m * 10 + i) for i in range(10)]
        resources += [weight(m * 10 + i, n) for i in range(10) for n in range(20)]
        (tmp_path / f"m{m:02}.ndjson").write_text("\n".join(map(json.dumps, resources)))
    given = connection.settings_dict
    url = f"postgresql://{given['USER']}:{given['PASSWORD'] or ''}@{'' if given['HOST'].startswith('/') else given['HOST']}"
    url += f"{':' + given['PORT'] if given['PORT'] else ''}/{given['NAME']}" + (
        f"?host={given['HOST']}" if given["HOST"].startswith("/") else ""
    )
    code = f"import django; django.setup(); from lianxin.exchange import load; load.load([{str(tmp_path)!r}], institution='L1')"
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    for _ in range(600):
        if LoadRun.objects.count() >= 3 or worker.poll() is not None:
            break
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert LoadRun.objects.count() >= 3
    report = load.load([tmp_path], institution="L1")
    assert report.refused == 0
    assert LoadRun.objects.count() == 12
    assert count("Patient") == 120
    assert count("Observation") == 2400
    assert Person.objects.unscoped("test").count() <= 120


@pytest.mark.shared
@pytest.mark.skipif(not settings.SHARED.exists(), reason="the shared data folder is not here")
def test_the_synthea_bundles_load_whole(hospital):
    path = settings.SHARED / "data" / "fhir" / "synthea-100-bundles.zip"
    report = load.load([path], institution="L1")
    bundled = report.accepted - report.by_type.get("Group", 0)
    assert (bundled, report.refused, report.unresolved) == (38_970, 0, 0), report.refusals[:5]
    assert report.by_type["Patient"] == 100
    with connection.cursor() as cur:
        cur.execute("SELECT person_id, count(*) FROM record_resource WHERE person_id IS NOT NULL GROUP BY 1")
        people = dict(cur.fetchall())
    assert len(people) == Person.objects.unscoped("test").count() == 100
    assert all(timeline.timeline(SYSTEM, p) for p in people)
    assert load.load([path], institution="L1").accepted == 0


@pytest.mark.django_db(transaction=True)
def test_processes_share_a_load(tmp_path, hospital, monkeypatch):
    """The patients come first; files of several processes are all there, none twice."""
    s = connection.settings_dict
    where = (
        f"@/{s['NAME']}?host={s['HOST']}"
        if str(s["HOST"]).startswith("/")
        else f"@{s['HOST']}:{s['PORT']}/{s['NAME']}"
    )
    secret = f":{s['PASSWORD']}" if s["PASSWORD"] else ""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{s['USER']}{secret}{where}")
    (tmp_path / "patient.ndjson").write_text(json.dumps({**patient(1), "id": "jp"}))
    load.load([tmp_path], institution=hospital.code)
    seen = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "体重"},
        "subject": {"reference": "Patient/jp"},
    }
    for n in range(4):
        lines = [json.dumps({**seen, "id": f"j{n}-{k}"}) for k in range(20)]
        (tmp_path / f"part{n}.ndjson").write_text("\n".join(lines))
    report = load.load([tmp_path], institution=hospital.code, jobs=2)
    assert (report.accepted, report.refused, report.skipped) == (80, 0, 1)
    with connection.cursor() as cur:
        cur.execute("SELECT count(*), count(DISTINCT id) FROM record_resource WHERE id LIKE 'j%%-%%'")
        assert cur.fetchone() == (80, 80)
