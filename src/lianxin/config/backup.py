"""Back up and restore the whole database with PostgreSQL's own programs.

A backup holds sealed identity numbers and phones; they open only under the root secret (``LIANXIN_HOME/secret`` or
``LIANXIN_SECRET``), which is *not* in the backup and must be kept apart from it.

Images are files, not rows: the folder ``LIANXIN_ARCHIVE_DIR`` (default ``LIANXIN_HOME/archive``) is backed up with the tools for files, after
the database. Files never change once they are there, so copying what is new is enough (docs/how-to/imaging-archive.md).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from lianxin.config import postgres

MAGIC = b"PGDMP"


class BackupRefused(RuntimeError):
    """Nothing was written; the message says why and what to do."""


def _server() -> tuple[Path, list[str], dict[str, str]]:
    """Programs to use, connection arguments, and the environment that carries the password."""
    from django.db import connection

    settings: dict[str, Any] = connection.settings_dict
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        major = int(cursor.fetchone()[0]) // 10000
    try:
        programs = postgres.binaries(major)
    except postgres.PostgresUnavailable:
        programs = postgres.binaries()
        if postgres.major(programs) < major:
            raise BackupRefused(
                f"the server is PostgreSQL {major}: install pg_dump of that version or newer"
            ) from None
    arguments = ["--no-password", "--dbname", settings["NAME"]]
    for flag, key in (("--host", "HOST"), ("--port", "PORT"), ("--username", "USER")):
        if settings[key]:
            arguments += [flag, str(settings[key])]
    environment = {**os.environ, "LC_ALL": "C"}
    if settings["PASSWORD"]:
        environment["PGPASSWORD"] = settings["PASSWORD"]
    for key, value in settings.get("OPTIONS", {}).items():
        if key.startswith("ssl"):
            environment[f"PG{key.upper()}"] = str(value)
    return programs, arguments, environment


def dump(target: Path) -> int:
    """Write a consistent backup (``pg_dump`` custom format, compressed, mode 0600) to ``target``; returns its size in bytes.

    Raises:
        BackupRefused: ``target`` exists, or ``pg_dump`` failed.
    """
    if target.exists():
        raise BackupRefused(f"{target} exists already: name a new file")
    programs, arguments, environment = _server()
    half = target.with_name(target.name + ".part")
    os.close(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    command = [
        str(programs / "pg_dump"),
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--file",
        str(half),
    ]
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        half.unlink(missing_ok=True)
        raise BackupRefused(f"pg_dump failed: {done.stderr.strip()[-500:]}")
    half.replace(target)
    return target.stat().st_size


def restore(source: Path) -> None:
    """Restore a backup into the *empty* database that the settings name, all or nothing.

    Raises:
        BackupRefused: the file is no backup, the database has tables, ``pg_restore`` failed, or (after restoring) the sealed
            fields do not open under this installation's secret.
    """
    from django.db import connection

    try:
        with source.open("rb") as head:
            genuine = head.read(len(MAGIC)) == MAGIC
    except OSError as failure:
        raise BackupRefused(f"{source} cannot be read: {failure.strerror}") from failure
    if not genuine:
        raise BackupRefused(f"{source} is not a backup made by `lianxin backup`")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        tables = cursor.fetchone()[0]
    if tables:
        raise BackupRefused(
            f"the database has {tables} tables: restore goes into an empty one only "
            "(create a new database and name it in DATABASE_URL, or set LIANXIN_HOME to a new folder)"
        )
    programs, arguments, environment = _server()
    connection.close()
    command = [
        str(programs / "pg_restore"),
        "--exit-on-error",
        "--single-transaction",
        "--no-owner",
        "--no-privileges",
    ]
    done = subprocess.run(
        [*command, *arguments, str(source)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackupRefused(f"pg_restore failed, nothing was restored: {done.stderr.strip()[-500:]}")
    if not secret_fits():
        raise BackupRefused(
            "restored, but sealed identity numbers do not open: put the root secret of the installation that made the "
            "backup into LIANXIN_HOME/secret (or LIANXIN_SECRET) before anybody works with it"
        )


def secret_fits() -> bool:
    """Whether one sealed value of the database opens under our secret (True also when there is none)."""
    from django.db import connection

    from lianxin.access import seal

    with connection.cursor() as cursor:
        cursor.execute("SELECT id_sealed FROM index_person WHERE id_sealed <> '' LIMIT 1")
        row = cursor.fetchone()
    if row is None:
        return True
    try:
        seal.unseal(row[0])
    except Exception:  # whatever the cipher calls a wrong key
        return False
    return True
