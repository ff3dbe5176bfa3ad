"""``kill -9`` of bulk workers, of the whole server and of the database during ``$export`` and ``$import``: both go on to exact ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.reliability.conftest import Town
from tests.reliability.installation import Answer, Installation, descendants, eventually
from tests.reliability.test_kill_load import _observation, _patient

pytestmark = [pytest.mark.concurrency]

PEOPLE, RESULTS = 150, 40


def bulk_workers(site: Installation) -> list[int]:
    """The bulk worker processes of the running server."""
    assert site.server is not None
    found = []
    for pid in descendants(site.server.pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"bulk_worker" in file.read():
                found.append(pid)
    return found


def kill(site: Installation) -> int:
    """``kill -9`` of every bulk worker; how many there were."""
    pids = bulk_workers(site)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def call(site: Installation, token: str, method: str, path: str, body: bytes | None = None) -> Answer | None:
    """A request to /bulk/, or None when nobody answers now."""
    try:
        answer = site.http(
            method,
            path,
            body,
            {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+ndjson"},
        )
    except OSError:
        return None
    return answer if answer.status != 503 else None


def manifest(site: Installation, token: str, where: str) -> dict[str, Any]:
    """The manifest of a job, waited for."""

    def done() -> Answer | None:
        answer = call(site, token, "GET", where)
        return answer if answer is not None and answer.status != 202 else None

    answer = eventually(done, seconds=240, what="the end of the job")
    assert answer.status == 200, answer.raw.decode()
    return answer.json


def path_of(answer: Answer) -> str:
    """The polling address without the host."""
    assert answer.status == 202, answer.raw.decode()
    return "/" + answer.headers["content-location"].split("/", 3)[3]


def lines(site: Installation, token: str, url: str) -> list[dict[str, Any]]:
    """The resources of a file."""
    answer = eventually(lambda: call(site, token, "GET", "/" + url.split("/", 3)[3]), what="the file")
    assert answer.status == 200
    return [json.loads(line) for line in answer.raw.splitlines()]


def progress(site: Installation, where: str) -> tuple[int, int]:
    """(files noted, lines taken) of a job."""
    job = where.rpartition("/")[2]
    files = site.count("SELECT count(*) FROM exchange_bulkfile WHERE job_id = %s AND role = 'output'", job)
    return files, site.count("SELECT coalesce(sum(count), 0) FROM exchange_bulklane WHERE job_id = %s", job)


def upload(site: Installation, token: str, resources: list[dict[str, Any]]) -> str:
    """Send lines ahead; their address."""
    raw = b"\n".join(json.dumps(r, ensure_ascii=False).encode() for r in resources)
    answer = call(site, token, "POST", "/bulk/upload", raw)
    assert answer is not None
    assert answer.status == 201, answer.raw
    return str(answer.json["url"])


@pytest.fixture
def small_files(town: Town) -> Iterator[Town]:
    """The same server with two bulk workers and files of fifty lines, so that there is time to strike between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIANXIN_BULK_FILE_LINES", "50")
        patch.setenv("LIANXIN_BULK_WORKERS", "2")
        _restart(town.site)
        yield town
    _restart(town.site)


def test_import_and_export_survive_every_death(small_files: Town) -> None:
    town, site = small_files, small_files.site
    people = [_patient(7000 + n, id=f"bulk-{n}") for n in range(PEOPLE)]
    results = [
        _observation(f"Patient/bulk-{n}", 100 + k, id=f"bulk-{n}-{k}") | {"note": [{"text": "说明" * 200}]}
        for n in range(PEOPLE)
        for k in range(RESULTS)
    ]
    urls = [("Patient", upload(site, town.head, people)), ("Observation", upload(site, town.head, results))]
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "input", "part": [{"name": "type", "valueCode": t}, {"name": "url", "valueUrl": u}]} for t, u in urls
        ],
    }  # fmt: skip
    where = path_of(site.fhir(town.head, "POST", "$import", body))
    for blow, goal in ((kill, 200), (Installation.kill_database, 2200)):
        eventually(lambda goal=goal: progress(site, where)[1] > goal, what="the import")
        assert progress(site, where)[1] < PEOPLE * (RESULTS + 1), "the import was over before the blow"
        blow(site)
    told = manifest(site, town.head, where)
    assert [o["count"] for o in told["output"]] == [PEOPLE, PEOPLE * RESULTS]
    assert told["error"] == []
    stored = Counter(
        dict(
            site.query(
                "SELECT rtype, count(*) FROM record_resource WHERE id LIKE 'bulk-%%' AND version = 1 GROUP BY 1"
            )
        )
    )
    assert stored == {"Patient": PEOPLE, "Observation": PEOPLE * RESULTS}, (
        "every line once, and none written twice"
    )

    where = path_of(site.fhir(town.head, "GET", "$export?_type=Patient,Observation"))
    for blow, goal in ((kill, 2), (Installation.kill_database, 5), (_restart, 8)):
        eventually(lambda goal=goal: progress(site, where)[0] >= goal, what="the export")
        noted = progress(site, where)[0]
        blow(site)
        eventually(lambda: site.ready(), what="the server")
        assert progress(site, where)[0] >= noted, "a finished file was forgotten"
    told = manifest(site, town.head, where)
    got = [one["id"] for file in told["output"] for one in lines(site, town.head, file["url"])]
    assert len(got) == len(set(got)), "a resource was given twice"
    assert {i for i in got if i.startswith("bulk-")} == {r["id"] for r in [*people, *results]}
    assert len(got) == sum(file["count"] for file in told["output"])
    folder = site.home / "bulk" / where.rpartition("/")[2]
    assert len(list(folder.iterdir())) == len(told["output"]), "half-made files were left"
    assert call(site, town.head, "DELETE", where).status == 202  # type: ignore[union-attr]
    assert not folder.exists()
    site.check()


def _restart(site: Installation) -> None:
    site.kill_server()
    site.serve()
