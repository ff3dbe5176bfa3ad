"""The examples of docs/how-to/connect-a-client.md run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import HERE, ROOT, Door

TEXT = (ROOT / "docs/how-to/connect-a-client.md").read_text(encoding="utf-8")
BLOCKS = [
    pytest.param(
        kind, code, id=f"{kind}-{re.findall(r'^## (.*)$', TEXT[: match.start()], re.M)[-1].split()[0]}"
    )
    for match in re.finditer(r"^```(sh|python|js)\n(.*?)^```$", TEXT, re.S | re.M)
    for kind, code in [match.groups()]
]


def test_there_are_examples_of_each() -> None:
    assert len(BLOCKS) == 5


@pytest.mark.parametrize(("kind", "code"), BLOCKS)
def test_the_example_runs(
    door: Door, kind: str, code: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sh" and not shutil.which("curl"):
        pytest.skip("the curl examples need curl")
    program = {"sh": ["bash", "-euo", "pipefail", "-c", code], "python": [sys.executable, "-c", code]}.get(
        kind
    )
    if program is None:
        program = [request.getfixturevalue("node"), "--input-type=module", "-e", code]
    environment = {**os.environ, "FHIR_BASE": door.base, "FHIR_TOKEN": door.token, "LC_ALL": "C.UTF-8"}
    where = HERE / "js" if kind == "js" else tmp_path
    done = subprocess.run(
        program, cwd=where, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, (done.stdout[-500:], done.stderr[-2000:])
