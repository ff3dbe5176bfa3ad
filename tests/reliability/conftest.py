"""One small consortium, stood up once for all tests of this folder, with tokens of its two systems and its residents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lianxin.standards.identifiers import resident_id_make
from tests.reliability.installation import HEAD, TOWNSHIP, Installation

PEOPLE = 84  # 12 + 60 for the crowds, the last dozen for tests that want somebody of their own
FACTS = f"""
import json
from lianxin.access import tokens
from lianxin.scenarios import demo
print(json.dumps({{
    "township": tokens.issue("township system", "system/*.cruds", "{TOWNSHIP}"),
    "head": tokens.issue("hospital system", "system/*.cruds", "{HEAD}"),
    "accounts": [[a.username, a.password, a.role.zh] for a in demo.accounts("xining")],
}}))
"""


@dataclass
class Town:
    """The installation and what its clients know."""

    site: Installation
    township: str
    head: str
    people: list[str]
    accounts: list[list[str]]

    def account(self, prefix: str, role: str) -> tuple[str, str]:
        """Name and password of the ready account of this role whose name begins so."""
        return next((a[0], a[1]) for a in self.accounts if a[0].startswith(prefix) and a[2] == role)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The Xining group with its residents, and ``lianxin serve``."""
    made = Installation(tmp_path_factory.mktemp("lianxin") / "home")
    try:
        made.run("migrate")
        made.run("scenario", "xining", "--residents", "60")
        made.serve()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def town(site: Installation) -> Town:
    """What the clients of the two systems know, with people of their own."""
    facts: dict[str, Any] = site.shell(FACTS)
    town = Town(site, facts["township"], facts["head"], [], facts["accounts"])
    entries = [resident(n) for n in range(PEOPLE)]
    answer = site.fhir(
        town.township, "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    )
    assert answer.status == 200, answer.raw.decode()[:800]
    town.people = [entry["resource"]["id"] for entry in entries]
    return town


def resident(n: int) -> dict[str, Any]:
    """A transaction entry that registers one more resident at the township."""
    born = dt.date(1950, 1, 1) + dt.timedelta(days=97 * n)
    number = resident_id_make("630121", born, 400 + n)
    patient = {
        "resourceType": "Patient", "id": f"rel-{n:03d}", "name": [{"text": f"{'单解仇查盖'[n % 5]}{'青山绿水长流'[n % 6]}{n}"}],
        "gender": "male" if n % 2 else "female", "birthDate": born.isoformat(),
        "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": number}],
    }  # fmt: skip
    return {"resource": patient, "request": {"method": "PUT", "url": f"Patient/{patient['id']}"}}
