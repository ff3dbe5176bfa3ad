"""Scheduled exports: what is in them, that nothing is missed or sent twice, and receivers on bad days."""

import csv
import datetime as dt
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from django.db import IntegrityError, connection, transaction

from lianxin.access import connections, seal, tokens
from lianxin.access.models import AuditEvent
from lianxin.access.models import Client as System
from lianxin.exchange.partners import delivery, exports, worker
from lianxin.exchange.partners.models import LIVE, MADE, SENT, Export, ExportFile, ExportRun, Partner
from lianxin.exchange.v2.outbound_mapping import BadMapping
from lianxin.standards import clock
from tests.exchange import receiver as receivers
from tests.exchange.client import Client
from tests.factories import make_consortium, make_institution

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(db):
    a, b, out = (make_institution(f"EX-{x}", "hospital") for x in "ABX")
    make_consortium(a, [b])
    make_consortium(out, [make_institution("EX-Y", "township")])
    yield {"a": a, "b": b, "out": out}
    connections.close()


def partner(institution, **more):
    made = Partner.objects.create(
        name=f"P-{institution.code}",
        state=LIVE,
        waived="test",
        state_at=clock.now(),
        created_at=clock.now(),
        **more,
    )
    tokens.issue(f"x-{institution.code}", "system/*.rs", institution.code)
    return made, System.objects.get(name=f"x-{institution.code}")


def export(institution, **more):
    owner, client = partner(institution)
    given = {
        "what": "resources", "kinds": ["Patient", "Observation"], "format": "ndjson", "method": "folder", "folder": f"t{os.getpid()}-{institution.pk}",
        "every": 5, "next_at": clock.now(), "created_at": clock.now(), "name": f"E-{institution.code}",
    }  # fmt: skip
    return Export.objects.create(partner=owner, client=client, **given | more)


def fill(code, count=3, name="程知节"):
    client = Client(f"c-{code}", code)
    made = client(
        "POST",
        "Patient",
        {"resourceType": "Patient", "name": [{"text": name}], "gender": "male", "birthDate": "1961-07-23"},
    )
    assert made.status == 201, made.raw
    about = {"reference": f"Patient/{made.json['id']}"}
    for n in range(count):
        body = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "血糖"},
            "subject": about,
            "valueInteger": n,
        }
        assert client("POST", "Observation", body).status == 201
    return client, made.json


def bodies(run):
    return {f.name: delivery.body_of(f) for f in ExportFile.objects.filter(run=run).order_by("number")}


def test_a_run_holds_what_changed_since_the_last_one_and_a_manifest_to_check_it_by(world, settings, tmp_path):
    settings.HOME = tmp_path
    one = export(world["a"])
    client, patient = fill("EX-A")
    run = exports.make(one.pk)
    files = bodies(run)
    assert sorted(files) == ["Observation.1.ndjson", "Patient.1.ndjson", "manifest.json"]
    lines = files["Observation.1.ndjson"].decode().splitlines()
    assert [json.loads(x)["valueInteger"] for x in lines] == [0, 1, 2]
    assert json.loads(files["Patient.1.ndjson"])["meta"]["versionId"] == "1"
    manifest = json.loads(files["manifest.json"])
    assert [f["sha256"] for f in manifest["files"]] == [
        hashlib.sha256(files[f["name"]]).hexdigest() for f in manifest["files"]
    ]
    assert manifest["files"][0]["sm3"] == seal.sm3(files[manifest["files"][0]["name"]]).hex()
    assert exports.make(one.pk) is None  # nothing new
    assert delivery.deliver(one.pk) == 1
    where = tmp_path / "exports" / one.folder / run.stable_id
    assert {p.name: p.read_bytes() for p in where.iterdir()} == files
    client("PUT", f"Patient/{patient['id']}", {**patient, "gender": "other"})
    client("PUT", f"Patient/{patient['id']}", {**patient, "gender": "unknown"})
    client("DELETE", f"Observation/{json.loads(lines[0])['id']}")
    second = exports.make(one.pk)
    files = bodies(second)
    assert json.loads(files["Patient.1.ndjson"])["gender"] == "unknown"  # the newest, once
    assert json.loads(files["deleted.1.ndjson"])["entry"][0]["request"]["url"].startswith("Observation/")
    assert second.from_rid == run.to_rid
    assert AuditEvent.objects.filter(action="export", what=f"export {one.pk} run 1").count() == 1
    one.refresh_from_db()
    assert one.next_at > clock.now()


def test_nobody_elses_patients_are_in_it(world):
    fill("EX-A")
    stranger = export(world["out"])
    assert exports.make(stranger.pk) is None
    stranger.refresh_from_db()
    assert stranger.read_rid > 0


def test_bundles_and_tables(world):
    fill("EX-A", 2, name="=HYPERLINK(1)")
    one = export(world["a"], format="bundle", filters="status=final", kinds=["Observation"])
    whole = json.loads(bodies(exports.make(one.pk))["bundle.1.json"])
    assert [e["request"]["method"] for e in whole["entry"]] == ["PUT", "PUT"]
    other, client = Partner.objects.get(), System.objects.get(name="x-EX-A")
    table = Export.objects.create(
        partner=other, client=client, name="T", what="table", kinds=["Patient"], format="csv", columns="编号 = id\n姓名 = name.text\n出生 = birthDate | day",
        method="folder", folder="t", daily=dt.time(3), next_at=clock.now(), created_at=clock.now(),
    )  # fmt: skip
    body = bodies(exports.make(table.pk))["Patient.csv"]
    assert body.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"))))
    assert rows[0] == ["编号", "姓名", "出生"]
    assert rows[1][1:] == ["'=HYPERLINK(1)", "19610723"]
    table.refresh_from_db()
    assert (table.next_at.astimezone(clock.ZONE).hour, table.next_at > clock.now()) == (3, True)
    for bad in ("", "a", "= id", "a = id | no"):
        with pytest.raises(BadMapping):
            exports.columns_of(bad)


def test_a_receiver_that_fails_gets_the_same_run_later_with_the_same_ids(world, settings):
    with receivers.listening() as hook:
        one = export(
            world["a"], method="POST", url=hook.url, folder="", auth="bearer", secret=seal.seal("s3cret")
        )
        fill("EX-A")
        answers = iter([200, 503])
        hook.answer = lambda heard: next(answers, 200)
        run = exports.make(one.pk)
        assert delivery.deliver(one.pk) == 0
        one.refresh_from_db()
        run.refresh_from_db()
        assert (run.state, run.http_status, one.failures) == (MADE, 503, 1)
        assert one.pk not in delivery.due()
        Export.objects.filter(pk=one.pk).update(not_before=None)
        assert delivery.deliver(one.pk) == 1
        names = [h.headers["x-lianxin-file"] for h in hook.heard]
        assert names == ["Observation.1.ndjson", "Patient.1.ndjson", "Patient.1.ndjson", "manifest.json"]
        keys = [h.headers["idempotency-key"] for h in hook.heard]
        assert keys[1] == keys[2]
        assert {h.headers["authorization"] for h in hook.heard} == {"Bearer s3cret"}
        delivery.again(run.pk)
        assert delivery.deliver(one.pk) == 1
        assert len(hook.heard) == 7
        assert b"s3cret" not in bytes(one.secret, "ascii")


def test_too_many_waiting_runs_stop_the_making_and_a_held_one_lets_others_go(world, monkeypatch):
    monkeypatch.setattr(exports, "MOST_RUNS", 2)
    monkeypatch.setattr(exports, "SLICE", 2)
    with receivers.listening() as hook:
        one = export(world["a"], method="PUT", url=hook.url, folder="", kinds=["Observation"])
        fill("EX-A", 7)
        made = [exports.make(one.pk) for _ in range(4)]
        assert [m is None for m in made] == [False, False, True, True]
        delivery.hold(made[0].pk)
        delivery.deliver(one.pk)
        while (more := exports.make(one.pk)) is not None:
            made.append(more)
            delivery.deliver(one.pk)
        assert made[0].stable_id not in {h.headers["x-lianxin-run"] for h in hook.heard}
        assert hook.heard[0].path.endswith(f"/{made[1].stable_id}/Observation.1.ndjson")
        delivery.again(made[0].pk)
        delivery.deliver(one.pk)
        told = [
            json.loads(x)["valueInteger"]
            for h in hook.heard
            if h.path.endswith("ndjson")
            for x in h.raw.decode().splitlines()
        ]
        assert sorted(told) == list(range(7))
        assert not ExportRun.objects.exclude(state=SENT).exists()


def test_addresses_that_are_not_allowed_and_folders_outside_are_refused(world, settings, tmp_path):
    settings.HOME = tmp_path
    settings.SESSION_COOKIE_SECURE = True
    one = export(world["a"], method="POST", url="http://127.0.0.1:1/x", folder="")
    fill("EX-A", 0)
    exports.make(one.pk)
    assert delivery.deliver(one.pk) == 0
    one.refresh_from_db()
    assert "LIANXIN_RECEIVERS" in one.last_error
    for folder in ("../etc", "/etc", "."):
        one.folder = folder
        with pytest.raises(delivery.Failed):
            delivery.folder_of(one)


def test_a_partner_that_is_not_live_is_sent_nothing(world):
    export(world["a"])
    fill("EX-A", 0)
    Partner.objects.update(state="suspended")
    assert exports.due() == []
    assert delivery.due() == []


def test_a_client_that_was_switched_off_exports_nothing_and_goes_on_where_it_was(world):
    one = export(world["a"])
    fill("EX-A", 1)
    System.objects.filter(pk=one.client_id).update(active=False)
    assert exports.make(one.pk) is None
    one.refresh_from_db()
    assert (one.read_rid, bool(one.last_error)) == (0, True)
    System.objects.filter(pk=one.client_id).update(active=True)
    assert exports.make(one.pk) is not None


@pytest.mark.parametrize("wrong", [{"format": "csv"}, {"method": "POST"}, {"every": None}, {"auth": "magic"}])
def test_the_database_refuses_exports_that_make_no_sense(world, wrong):
    with pytest.raises(IntegrityError), transaction.atomic():
        export(world["a"], **wrong)


KILLED = """
import django; django.setup()
from lianxin.exchange.partners import delivery, exports
from lianxin.standards import clock
import sys
pk = int(sys.argv[1])
exports.SLICE = 5
while True:
    exports.make(pk)
    delivery.deliver(pk)
"""


def test_a_sender_that_is_killed_loses_nothing_and_repeats_only_with_the_same_ids(world):
    with receivers.listening() as hook:
        one = export(world["a"], method="POST", url=hook.url, folder="", kinds=["Observation"])
        fill("EX-A", 40)
        name = connection.settings_dict["NAME"]
        given = {
            **os.environ,
            "DATABASE_URL": f"postgresql://lianxin@/{name}?host={connection.settings_dict['HOST']}",
        }
        for beat in (0.02,):
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(one.pk)], env=given)
            before, until = len(hook.heard), time.monotonic() + 30
            while len(hook.heard) == before and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(beat)
            process.send_signal(signal.SIGKILL)
            process.wait()
        exporter = worker.Exporter()
        for _ in range(14):
            Export.objects.filter(pk=one.pk).update(not_before=None, next_at=clock.now())
            exporter.step()
            exporter.wait(20)
        exporter.close()
        seen = {}
        for heard in hook.heard:
            if heard.headers["x-lianxin-file"].endswith("ndjson"):
                seen.setdefault(heard.headers["idempotency-key"], set()).add(heard.raw)
        assert all(len(raws) == 1 for raws in seen.values())
        told = [
            json.loads(x)["valueInteger"]
            for raws in seen.values()
            for x in next(iter(raws)).decode().splitlines()
        ]
        assert sorted(told) == list(range(40))
