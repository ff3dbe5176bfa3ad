"""The repository itself: the floors hold, and no committed file names a registry's host or somebody's machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Split, so that this file does not hold what it forbids.
REGISTRIES = [
    "registry." + "npmjs",
    "pypi" + ".org",
    "files." + "pythonhosted",
    "deb." + "debian.org",
    "proxy." + "golang",
]
MACHINE = re.compile(
    rb"(?<![\w.])/(?:"
    + b"work"
    + rb"|"
    + b"home/[a-z]+"
    + rb"|"
    + b"root"
    + rb"|"
    + b"Users/[a-z]+"
    + rb")/[\w.]"
)


def committed() -> list[Path]:
    """Every file under version control."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_floors_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = []
    for path in committed():
        body = path.read_bytes()
        found += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRIES if host.encode() in body]
        if b"\0" not in body[:4096]:
            found += [f"{path.relative_to(ROOT)}: {place.decode()}…" for place in MACHINE.findall(body)]
    assert not found


def test_package_lock_pins_by_hash_and_names_no_host() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert not [name for name, entry in packages.items() if not entry.get("integrity")]


def test_package_json_pins_exact_versions() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert not {
        name: version for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)
    }


@pytest.mark.parametrize("name", ["base", "dev", "node", "postgres"])
def test_requirements_are_pinned_by_hash(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.findall(r"^(?![#\s])(.+(?:\n\s+--hash=.+)*)", text, re.MULTILINE)
    assert entries
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


def test_the_ci_entry_runs_make_test() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert script.startswith("#!/usr/bin/env bash\nset -euo pipefail\n")
    assert script.rstrip().endswith("exec make test")
