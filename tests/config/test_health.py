"""What watchers read, what logs may not say, and where requests go."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client

from lianxin.config import health, logs, observe


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", False)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


def test_healthz_needs_no_database(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.django_db
def test_readyz_is_ready_with_all_migrations(client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.django_db
def test_readyz_names_waiting_migrations(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "django.db.migrations.executor.MigrationExecutor.migration_plan", lambda self, targets: [1, 2]
    )
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "2 migrations" in answer.json()["reason"]


@pytest.mark.django_db
def test_readyz_says_when_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr(health.connection, "cursor", gone)
    assert client.get("/readyz").status_code == 503


@pytest.mark.django_db
def test_metrics_count_by_route_and_read_every_figure(client: Client) -> None:
    client.get("/healthz")
    text = client.get("/metrics").content.decode()
    assert 'lianxin_requests_total{method="GET",route="/healthz",status="200"}' in text
    missing = [name for name in health.GAUGES if f"\n{name} " not in text]
    assert not missing


@pytest.mark.django_db
def test_metrics_are_not_for_strangers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.7").status_code == 403
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    monkeypatch.setenv("LIANXIN_METRICS_TOKEN", "open sesame")
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer open sesame"}).status_code == 200


def test_a_request_keeps_its_callers_id_unless_it_could_be_a_number_of_a_person(client: Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "trace-0001"})["X-Request-ID"] == "trace-0001"
    assert (
        client.get("/healthz", headers={"X-Request-ID": "330102199001011234"})["X-Request-ID"]
        != "330102199001011234"
    )
    assert client.get("/healthz", headers={"X-Request-ID": "a b\tc"})["X-Request-ID"] != "a b\tc"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("resident 33010219900101123X seen", "resident # seen"),
        ("phone 13800001111", "phone #"),
        ("Key (name, birth)=(张三, 1990-01-01) already exists.", "Key (name, birth)=(#) already exists."),
        ("Failing row contains (1, 张三, 330102199001011234).", "Failing row contains (#)."),
        (
            "2026-11-23T05:00:00+0800 case ZZ20261123-00017 took 1234 ms",
            "2026-11-23T05:00:00+0800 case ZZ20261123-00017 took 1234 ms",
        ),
    ],
)
def test_log_lines_are_scrubbed(line: str, kept: str) -> None:
    assert logs.scrub(line) == kept


def test_json_logs_are_one_object_a_line_with_the_request_id() -> None:
    program = (
        "import django; django.setup()\n"
        "import structlog, logging\n"
        "with structlog.contextvars.bound_contextvars(request_id='r-1'):\n"
        "    structlog.get_logger('lianxin.x').warning('happened', count=3)\n"
        "    logging.getLogger('lianxin.y').error('old %s', 'style')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LIANXIN_LOG_JSON": "1", "DJANGO_SETTINGS_MODULE": "lianxin.config.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = [json.loads(line) for line in done.stderr.splitlines()]
    assert (first["event"], first["count"], first["request_id"], first["level"]) == (
        "happened",
        3,
        "r-1",
        "warning",
    )
    assert (second["event"], second["request_id"], second["logger"]) == ("old style", "r-1", "lianxin.y")


def test_the_route_of_a_request_is_logged_by_pattern(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lianxin.requests"):
        client.get("/healthz?q=330102199001011234")
    assert "330102199001011234" not in caplog.text


def test_a_raw_application_is_counted_and_its_failure_too() -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        raise RuntimeError

    before = observe.REQUESTS.labels("raw-test", "GET", "500")._value.get()
    with pytest.raises(RuntimeError):
        observe.observed(broken, "raw-test")({"REQUEST_METHOD": "GET"}, lambda *args: None)
    assert observe.REQUESTS.labels("raw-test", "GET", "500")._value.get() == before + 1


def test_fhir_goes_to_the_raw_door_and_the_rest_to_django(monkeypatch: pytest.MonkeyPatch) -> None:
    from lianxin.config import wsgi

    monkeypatch.setattr(wsgi, "_fhir", lambda environ, start: [b"fhir"])
    monkeypatch.setattr(wsgi, "pages", lambda environ, start: [b"pages"])
    asked = {
        path: wsgi.application({"PATH_INFO": path}, None)
        for path in ("/fhir", "/fhir/Patient/1", "/fhirx", "/", "/people")
    }  # type: ignore[arg-type]
    assert list(asked.values()) == [[b"fhir"], [b"fhir"], [b"pages"], [b"pages"], [b"pages"]]
