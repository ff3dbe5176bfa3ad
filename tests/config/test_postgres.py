"""The embedded server: started, shared, adopted, left by killed users, cleared of stale files."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from lianxin.config import postgres, process

HOLD = """
import sys, time
from pathlib import Path
from lianxin.config import postgres
place = postgres.attach(Path(sys.argv[1]))
print(postgres.server_pid(place), flush=True)
sys.stdin.read()
postgres.detach(Path(sys.argv[1]))
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    eventually(lambda: not postgres._stopping(folder) if folder.exists() else True)
    postgres.destroy(folder)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def user(home: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process that uses the server of ``home`` until its standard input closes; and the server's process id."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def leave(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    child.wait(60)


def query(home: Path, statement: str) -> object:
    place = postgres.layout(home)
    with psycopg.connect(
        host=str(place.run), dbname="lianxin", user="lianxin", autocommit=True
    ) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_starts_private_and_durable_and_stops_after_its_last_user(home: Path) -> None:
    place = postgres.attach(home)
    pid = postgres.server_pid(place)
    assert pid is not None
    assert query(home, "SHOW listen_addresses") == ""
    assert query(home, "SHOW fsync") == "on"
    assert query(home, "SHOW synchronous_commit") == "on"
    assert query(home, "SHOW server_encoding") == "UTF8"
    assert stat.S_IMODE(place.run.stat().st_mode) == 0o700
    other, seen = user(home)
    assert seen == pid
    postgres.detach(home)
    assert process.alive(pid), "another process still uses it"
    leave(other)
    eventually(lambda: not process.alive(pid))


def test_data_stay_from_one_start_to_the_next(home: Path) -> None:
    postgres.attach(home)
    query(home, "CREATE TABLE kept AS SELECT 7 AS n")
    postgres.detach(home)
    eventually(lambda: postgres.server_pid(postgres.layout(home)) is None)
    postgres.attach(home)
    assert query(home, "SELECT n FROM kept") == 7


def test_a_killed_user_leaves_no_server_behind(home: Path) -> None:
    child, pid = user(home)
    child.send_signal(signal.SIGKILL)
    child.wait()
    eventually(lambda: not process.alive(pid))


def test_a_killed_supervisor_is_replaced_and_work_goes_on(home: Path) -> None:
    place = postgres.attach(home)
    query(home, "CREATE TABLE kept AS SELECT 7 AS n")
    supervisor = int((home / "supervisor.lock").read_text())
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not postgres._supervised(home))
    other, pid = user(home)
    assert process.alive(pid)
    eventually(lambda: postgres.healthy(place))
    assert query(home, "SELECT n FROM kept") == 7
    leave(other)


def test_a_killed_server_is_started_again_with_every_committed_row(home: Path) -> None:
    place = postgres.attach(home)
    query(home, "CREATE TABLE kept AS SELECT 7 AS n")
    pid = postgres.server_pid(place)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: postgres.server_pid(place) not in (None, pid) and postgres.healthy(place))
    assert query(home, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("pid", ["999999999", "our own", "nonsense"])
def test_a_stale_pid_file_is_cleared_away(home: Path, pid: str) -> None:
    place = postgres.attach(home)
    postgres.detach(home)
    eventually(lambda: postgres.server_pid(place) is None)
    pid = str(os.getpid()) if pid == "our own" else pid
    (place.data / "postmaster.pid").write_text(f"{pid}\n{place.data}\n1\n5432\n{place.run}\n\n  1  1\n")
    assert postgres.server_pid(place) is None
    postgres.attach(home)
    assert postgres.server_pid(place)


def test_a_server_in_use_is_not_destroyed(home: Path) -> None:
    other, pid = user(home)
    with pytest.raises(postgres.PostgresUnavailable, match="in use"):
        postgres.destroy(home)
    assert process.alive(pid)
    leave(other)


def test_many_first_users_at_once_share_one_server(home: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    pids = {int(child.stdout.readline()) for child in children if child.stdout}
    assert len(pids) == 1
    for child in children:
        leave(child)


def test_the_socket_folder_is_short_even_where_home_is_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    place = postgres.layout(deep)
    assert len(os.fsencode(place.run / ".s.PGSQL.5432")) <= postgres.SOCKET_LIMIT


def test_settings_suit_small_and_large_machines() -> None:
    assert postgres.settings(512 * 2**20)["shared_buffers"] == "76MB"
    assert postgres.settings(64 * 2**30)["shared_buffers"] == "1024MB"


def test_the_server_is_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIANXIN_SECRET", "ab" * 32)
    assert set(postgres._environment()) <= {"PATH", "LD_LIBRARY_PATH", "LC_ALL"}
