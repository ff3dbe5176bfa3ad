"""One installation with two vendors' tokens, served as people serve it, and Node for the clients written in JavaScript.

The server is ``lianxin serve`` with two workers and the embedded database, in processes of its own: what a vendor meets.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.installation import Answer, Installation

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OLDEST_NODE = 20
FACTS = """
import json
from lianxin.access import tokens
from lianxin.network.models import Institution
for code, name, kind, tier in (("V1", "甲县人民医院", "hospital", "county"), ("V2", "乙镇卫生院", "township", "township")):
    Institution.objects.create(code=code, name=name, kind=kind, tier=tier, division="331023")
print(json.dumps({
    "token": tokens.issue("vendor", "system/*.cruds", "V1"),
    "other": tokens.issue("other vendor", "system/*.cruds", "V2"),
    "reader": tokens.issue("reader", "system/Patient.rs", "V1"),
}))
"""


@dataclass
class Door:
    """A served FHIR door and the tokens of a vendor, of another institution's vendor, and of one who may read patients."""

    site: Installation
    token: str
    other: str
    reader: str

    @property
    def base(self) -> str:
        """The base address of the FHIR service."""
        return f"http://127.0.0.1:{self.site.port}/fhir"

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        """One request as the vendor; ``if_match=…`` becomes ``If-Match``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.site.fhir(self.token if token is None else token, method, path, body, sent, seconds=60)


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The served door."""
    site = Installation(tmp_path_factory.mktemp("clients") / "home")
    try:
        site.run("migrate")
        facts = site.shell(FACTS)
        site.serve()
        yield Door(site, **facts)
    finally:
        site.stop()


def _node(path: str) -> str | None:
    found = shutil.which("node", path=path)
    if not found:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return found if int(said.lstrip("v").split(".")[0] or 0) >= OLDEST_NODE else None


@pytest.fixture(scope="session")
def node() -> str:
    """Node with the JavaScript clients beside the scripts (``make test`` installs them; else they are installed now)."""
    path = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    program = _node(path)
    if program is None:
        pytest.skip(f"the JavaScript clients need Node {OLDEST_NODE} or newer (make setup provides it)")
    js = HERE / "js"
    with (js / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes, one installation
        if not (js / "node_modules" / ".package-lock.json").exists():
            subprocess.run(
                [sys.executable, str(ROOT / "scripts/provide.py"), "node", "--", "npm", "ci", "--prefix", str(js),
                 "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"],
                check=True,
            )  # fmt: skip
    return program


def run_js(node: str, script: str, door: Door) -> dict[str, Any]:
    """Run ``js/SCRIPT`` against the door; what it prints is one JSON object: step -> {"value": …} or {"error": …}."""
    environment = {
        "PATH": os.environ["PATH"],
        "FHIR_ROOT": door.base.removesuffix("/fhir"),
        "FHIR_TOKEN": door.token,
    }
    done = subprocess.run(
        [node, str(HERE / "js" / script)], capture_output=True, text=True, env=environment, timeout=180, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def value(steps: dict[str, Any], name: str) -> Any:
    """What a step found; fails with the client's own error when it raised."""
    step = steps.get(name, {"error": "the step was not reached"})
    assert "error" not in step, f"{name}: {step['error']}"
    return step["value"]
