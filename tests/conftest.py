"""What all tests share: a database, a browser that can reach nothing but this machine, and a real server to point it at.

Without ``DATABASE_URL`` the embedded PostgreSQL is started (or adopted) by whichever test process comes first and stops
after the last one. ``live`` serves the whole application, ``/fhir`` included, from a thread of the test process, so that
``clock`` and monkeypatches reach it; its tests use committed data (``transactional_db``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socketserver
import sys
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
from hypothesis import settings

# The gate says the same of the same commit, on a slow machine too. HYPOTHESIS_PROFILE=explore looks at new examples.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

# Playwright's sync API keeps an event loop running in the test's thread; the ORM there is used from that thread alone.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


def pytest_configure(config: pytest.Config) -> None:
    """Have a database server before pytest-django asks for one."""
    if os.environ.get("DATABASE_URL") or config.option.collectonly or config.option.help:
        return
    from django.conf import settings

    from lianxin.config import postgres

    postgres.attach(settings.HOME)


INSTALLATIONS = ("reliability", "clients")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Folders whose tests share a whole installation run in one worker: it is stood up once, not once in each.

    (pytest-xdist's own ``loadgroup`` marks tests by changing their names, which pytest 9 does not let it do.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = nodeid.split("/", 2)[1]
            return folder if folder in INSTALLATIONS else nodeid

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _nobody_waits_to_be_counted() -> Iterator[None]:
    """Refusals that a test's process has noted and not written are not the next test's."""
    yield
    if "lianxin.pool.demand" in sys.modules:
        sys.modules["lianxin.pool.demand"]._waiting.clear()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name parameters made of bytes by their length, never by their content.

    A gzip header carries the second it was written: two workers of pytest-xdist that collect in different
    seconds would see different tests and refuse to run any.
    """
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the embedded server; the last test process to do so stops it."""
    if os.environ.get("DATABASE_URL"):
        return
    from django.conf import settings

    from lianxin.config import postgres

    postgres.detach(settings.HOME)


@pytest.fixture(scope="session")
def _migrations_quick() -> Iterator[contextlib.ExitStack]:
    """The test database is made as a new installation's is; tests that migrate do it in the usual way again."""
    from lianxin.config import migrating

    with contextlib.ExitStack() as stack:
        stack.enter_context(migrating.changed_alone())
        yield stack


@pytest.fixture(scope="session")
def django_db_setup(_migrations_quick: contextlib.ExitStack, django_db_setup: None) -> Iterator[None]:
    """The test database, let go by the FHIR door's own connections before it is dropped."""
    _migrations_quick.close()
    yield
    beside = sys.modules.get("lianxin.access.connections")
    if beside is not None:
        beside.close()


@pytest.fixture(scope="session", autouse=True)
def _audit_at_once() -> None:
    """Tests look into the audit right after an answer."""
    from lianxin.access import journal

    journal.AT_ONCE = True


@pytest.fixture(scope="session", autouse=True)
def _flush_what_was_filled() -> Iterator[None]:
    """Tests with committed data empty the database after themselves; only tables that hold rows are touched.

    Django truncates every table of every app, half a second each time for this many, and forgets tables without a model.
    """
    from django.test import TransactionTestCase

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: _empty_database())
        yield


KEPT = ("django_migrations", "django_content_type", "auth_permission")


def _empty_database() -> None:
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema() AND tablename <> ALL(%s)",
            [list(KEPT)],
        )
        tables = [name for (name,) in cursor.fetchall()]
        cursor.execute(" UNION ALL ".join(f"(SELECT '{t}' FROM {t} LIMIT 1)" for t in tables))
        filled = [name for (name,) in cursor.fetchall()]
        # Append-only tables refuse DELETE, and rows refer to each other: both are looked after by triggers, which rest here.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for name in filled:
            cursor.execute(f"DELETE FROM {name}")
    if "lianxin.record.words" in sys.modules:
        sys.modules["lianxin.record.words"].forget()


# --------------------------------------------------------------------------------------------------------------- server


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing: addresses carry people's numbers."""


@pytest.fixture
def live(transactional_db: None) -> Iterator[str]:
    """Address (``http://127.0.0.1:PORT``) of the whole application, served by threads of this process."""
    from django.db import connections

    from lianxin.config.wsgi import application

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        # A thread serves one connection and may serve many requests; its database connections end with each request, or the
        # test database could not be emptied.
        body: Any = None
        try:
            body = application(environ, start_response)
            return [b"".join(body)]
        finally:
            if hasattr(body, "close"):
                body.close()
            connections.close_all()

    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.set_app(answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


# -------------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Debian's Chromium, headless; every name but this machine's is unknown to it."""
    program = (
        os.environ.get("LIANXIN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if not program:
        pytest.fail(
            "browser tests need Chromium: install the Debian package chromium (make setup does so as root)"
        )
    return {
        "executable_path": program,
        "headless": True,
        "args": [
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ],
    }


@pytest.fixture(scope="session")
def browser_context_args() -> dict[str, Any]:
    """A Chinese desktop in Shanghai; a test on a phone sets its own viewport."""
    return {"locale": "zh-CN", "timezone_id": "Asia/Shanghai", "viewport": {"width": 1440, "height": 900}}
