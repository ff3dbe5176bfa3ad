"""The console command: what it lists, and how it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lianxin.config import cli

COMMANDS = {
    "index",
    "listen",
    "feed",
    "documents",
    "settlement",
    "tables",
    "demo",
    "serve",
    "load",
    "export",
    "bulk-worker",
    "reindex",
    "scenario",
    "token",
    "check",
    "backup",
    "restore",
    "migrate",
    "manage",
    "ticker",
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "lianxin.config.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_command_without_loading_django() -> None:
    done = CliRunner().invoke(cli.main, ["--help"])
    assert done.exit_code == 0
    assert set(cli.main.commands) == COMMANDS
    assert all(name in done.output for name in COMMANDS)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, lianxin.config.cli; print('django' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize("command", sorted(COMMANDS - {"manage"}))
def test_every_command_explains_itself_in_both_languages(command: str) -> None:
    done = CliRunner().invoke(cli.main, [command, "--help"])
    assert done.exit_code == 0
    assert any("\u4e00" <= character <= "\u9fff" for character in done.output)
    assert any(character.isascii() and character.isalpha() for character in done.output)


def test_a_wrong_database_url_is_refused_with_its_name() -> None:
    done = run("check", DATABASE_URL="mysql://x/y", LANG="C")
    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_database_is_named_not_traced(tmp_path: Path) -> None:
    done = run("check", DATABASE_URL=f"postgresql://nobody@/none?host={tmp_path}", LANG="C")
    assert done.returncode == 1
    assert "database does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_messages_follow_the_terminals_language(tmp_path: Path) -> None:
    done = run(
        "check",
        DATABASE_URL=f"postgresql://nobody@/none?host={tmp_path}",
        LANG="zh_CN.UTF-8",
        LC_ALL="",
        LANGUAGE="",
    )
    assert "数据库未就绪" in done.stderr


def test_restore_refuses_what_is_no_backup(tmp_path: Path) -> None:
    from lianxin.config import backup

    other = tmp_path / "notes.txt"
    other.write_text("not a backup")
    with pytest.raises(backup.BackupRefused, match="not a backup"):
        backup.restore(other)


@pytest.mark.django_db
def test_restore_refuses_a_database_with_tables(tmp_path: Path) -> None:
    from lianxin.config import backup

    file = tmp_path / "made.backup"
    file.write_bytes(backup.MAGIC)
    with pytest.raises(backup.BackupRefused, match="empty one only"):
        backup.restore(file)


@pytest.mark.django_db(transaction=True)
def test_backup_writes_a_private_file_once(tmp_path: Path) -> None:
    from lianxin.config import backup

    target = tmp_path / "all.backup"
    assert backup.dump(target) > 1000
    assert target.read_bytes().startswith(backup.MAGIC)
    assert target.stat().st_mode & 0o077 == 0
    with pytest.raises(backup.BackupRefused, match="exists already"):
        backup.dump(target)
