"""``kill -9`` in the middle of ``lianxin load``: a member is taken whole or not at all, and never twice."""

from __future__ import annotations

import json
import signal
import uuid
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from lianxin.standards.identifiers import resident_id_make
from tests.reliability.conftest import Town
from tests.reliability.installation import Installation, eventually

pytestmark = [pytest.mark.concurrency]

BUNDLES, LISTS, RESULTS = 120, 100, 4


def _patient(serial: int, **more: Any) -> dict[str, Any]:
    born = f"{1940 + serial % 60}-0{1 + serial % 9}-{10 + serial // 900 % 18}"
    import datetime as dt

    number = resident_id_make("632802", dt.date.fromisoformat(born), serial % 900 + 50)
    return {
        "resourceType": "Patient", **more, "name": [{"text": "解" + "".join("甲乙丙丁戊己庚辛壬癸"[int(d)] for d in str(serial))}], "gender": "female", "birthDate": born,
        "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": number}],
    }  # fmt: skip


def _observation(subject: str, value: int, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", **more, "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
        "subject": {"reference": subject}, "effectiveDateTime": "2026-03-01",
        "valueQuantity": {"value": value, "unit": "mmHg"},
    }  # fmt: skip


def generate(folder: Path) -> Counter[str]:
    """Members of both shapes: transaction bundles with urns, and NDJSON with ids of their own; what they hold by type."""
    counts: Counter[str] = Counter()
    for n in range(BUNDLES):
        urn = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'load-{n}')}"
        resources = [_patient(n), *(_observation(urn, 100 + n + k) for k in range(RESULTS))]
        entries = [
            {
                "fullUrl": urn if r["resourceType"] == "Patient" else f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{n}-{k}')}",
                "resource": r, "request": {"method": "POST", "url": r["resourceType"]},
            }
            for k, r in enumerate(resources)
        ]  # fmt: skip
        (folder / f"b{n:04d}.json").write_text(
            json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        )
        counts.update(r["resourceType"] for r in resources)
    for n in range(LISTS):
        pid = f"load-{n}"
        resources = [
            _patient(1000 + n, id=pid),
            *(_observation(f"Patient/{pid}", 90 + k, id=f"{pid}-o{k}") for k in range(RESULTS)),
        ]
        (folder / f"n{n:04d}.ndjson").write_text("\n".join(map(json.dumps, resources)))
        counts.update(r["resourceType"] for r in resources)
    return counts


def held(site: Installation) -> Counter[str]:
    """How many live resources there are by type."""
    return Counter(
        dict(site.query("SELECT rtype, count(*) FROM record_resource WHERE NOT deleted GROUP BY 1"))
    )


def done(site: Installation) -> set[str]:
    """Names of the members noted as loaded."""
    return {
        name for (name,) in site.query("SELECT name FROM exchange_loadrun WHERE name ~ '^[bn][0-9]{4}[.]'")
    }


def interrupted(site: Installation, source: Path, more: int, blow: str) -> set[str]:
    """Start loading, strike when ``more`` further members are in; returns what had been noted as loaded before the blow."""
    start = len(done(site))
    child = site.begin("load", str(source), "--institution", "XN-QT")
    eventually(lambda: len(done(site)) >= start + more or child.poll() is not None, what="loading")
    assert child.poll() is None, "the load was over before the blow"
    noted = done(site)
    if blow == "load":
        child.send_signal(signal.SIGKILL)
        child.communicate()
        return noted
    if blow == "serve":
        site.kill_server()
        site.serve()
    else:
        site.kill_database()
    out, err = child.communicate(timeout=120)
    if blow == "database":
        assert child.returncode != 0, out
        assert b"Traceback" not in err, err.decode()[-3000:]
        assert b"same command again" in err, err.decode()[-3000:]
    else:
        assert child.returncode == 0, err.decode()[-3000:]
    return noted


def test_a_killed_load_is_resumed_to_exact_counts(town: Town, tmp_path: Path) -> None:
    site = town.site
    wanted = generate(tmp_path)
    before = held(site)
    people = site.count("SELECT count(*) FROM index_person")
    for blow, more in (("load", 30), ("database", 30)):
        noted = interrupted(site, tmp_path, more, blow)
        assert noted <= done(site), f"members noted as loaded were gone after the end of {blow}"
        assert len(done(site)) < BUNDLES + LISTS
    interrupted(site, tmp_path, 20, "serve")

    report = json.loads(site.run("load", str(tmp_path), "--institution", "XN-QT", "--json"))
    assert (report["members"], report["skipped"], report["refused"]) == (
        BUNDLES + LISTS,
        BUNDLES + LISTS,
        0,
    ), "all was there already"
    assert held(site) - before == wanted
    assert site.count("SELECT count(*) FROM index_person") == people + BUNDLES + LISTS
    assert (
        site.count("SELECT count(*) FROM exchange_loadrun WHERE name ~ '^[bn][0-9]{4}[.]'") == BUNDLES + LISTS
    )
    twice = site.count("SELECT count(*) FROM record_resource WHERE id LIKE 'load-%%' AND version > 1")
    assert twice == 0, "a resource was written twice"
    assert site.count("SELECT count(*) FROM exchange_deadletter WHERE replayed_at IS NULL") == 0
    site.check()


def test_what_is_left_of_a_half_loaded_set_is_named(town: Town, tmp_path: Path) -> None:
    site = town.site
    good, bad = _patient(5000, id="half-1"), {"resourceType": "Patient", "id": "half-2", "gender": "nonsense"}
    (tmp_path / "h1.ndjson").write_text("\n".join(map(json.dumps, [good, bad])))
    (tmp_path / "h2.json").write_text("{ not json")
    first = json.loads(site.run("load", str(tmp_path), "--institution", "XN-QT", "--json", code=1))
    assert (first["accepted"], first["refused"]) == (1, 2)
    assert {r["name"] for r in first["refusals"]} == {"h1.ndjson#line[2]", "h2.json"}
    again = json.loads(site.run("load", str(tmp_path), "--institution", "XN-QT", "--json", code=1))
    assert (again["accepted"], again["skipped"]) == (0, 1)
    assert site.count("SELECT count(*) FROM exchange_deadletter WHERE replayed_at IS NULL") == 2


@pytest.mark.shared
@pytest.mark.skipif(not settings.SHARED.exists(), reason="needs the folder of real data")
def test_the_synthea_bundles_survive_the_death_of_the_database(town: Town, tmp_path: Path) -> None:
    site = town.site
    chosen = tmp_path / "some.zip"
    with (
        zipfile.ZipFile(settings.SHARED / "data/fhir/synthea-100-bundles.zip") as whole,
        zipfile.ZipFile(chosen, "w") as some,
    ):
        names = sorted(i.filename for i in whole.infolist() if i.filename.endswith(".json"))
        first = [n for n in names if "hospital" in n.lower() or "practitioner" in n.lower()]
        kept = (
            first
            + sorted((n for n in names if n not in first), key=lambda n: whole.getinfo(n).file_size)[:24]
        )
        for name in kept:
            some.writestr(name, whole.read(name))
    before = held(site)
    child = site.begin("load", str(chosen), "--institution", "XN-SYY")
    loaded = "SELECT count(*) FROM exchange_loadrun WHERE name LIKE 'some.zip/%%'"
    eventually(lambda: site.count(loaded) >= len(first) + 3 or child.poll() is not None, what="loading")
    assert child.poll() is None, child.communicate()
    noted = site.count(loaded)
    site.kill_database()
    child.communicate(timeout=120)
    assert noted <= site.count(loaded) < len(kept)
    rest = json.loads(site.run("load", str(chosen), "--institution", "XN-SYY", "--json"))
    assert (rest["refused"], rest["members"]) == (0, len(kept))
    assert rest["skipped"] >= noted
    expected: Counter[str] = Counter()
    with zipfile.ZipFile(chosen) as some:
        for name in kept:
            document = json.loads(some.read(name))
            inside = (
                [entry["resource"] for entry in document["entry"]]
                if document["resourceType"] == "Bundle"
                else [document]
            )
            expected.update(resource["resourceType"] for resource in inside)
    grown = held(site) - before
    assert {t: n for t, n in grown.items() if t not in ("Organization", "Practitioner", "Location")} == {
        t: n for t, n in expected.items() if t not in ("Organization", "Practitioner", "Location")
    }
    site.check()
