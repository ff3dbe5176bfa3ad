"""Definitions as resources: stored once, found at the door, changed by nobody but the platform."""

from collections.abc import Iterator

import pytest

from lianxin.access import connections
from lianxin.record.terminology import publish, shipped
from lianxin.standards import codes, loader
from tests.exchange.client import Client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bytes]]:
    """A small archive, so that the test does not store everything."""
    names = ("administrative-gender", "v3-ActCode", "observation-status")
    kept = [row for row in shipped.every() if row[1] in names]
    assert len(kept) == 6
    monkeypatch.setattr(shipped, "every", lambda: kept)
    return kept


@pytest.fixture
def call() -> Iterator[Client]:
    yield Client("reader")
    connections.close()


def test_what_ships_is_read_and_searched_like_everything_else(
    few: list[tuple[str, str, bytes]], call: Client
) -> None:
    loader.load_shipped()
    ours = publish.load_shipped() - len(few)
    assert ours >= 20
    assert publish.load_shipped() == 0
    gender = call("GET", "CodeSystem/administrative-gender")
    assert gender.status == 200
    assert [c["code"] for c in gender.json["concept"]] == ["male", "female", "other", "unknown"]
    found = call("GET", "ValueSet?url=http://hl7.org/fhir/ValueSet/administrative-gender").json
    assert [e["resource"]["id"] for e in found["entry"]] == ["administrative-gender"]
    by_code = call("GET", "CodeSystem?code=male").json
    assert [e["resource"]["url"] for e in by_code["entry"]] == ["http://hl7.org/fhir/administrative-gender"]
    sex = call("GET", f"CodeSystem?url={codes.BASE}sex").json["entry"][0]["resource"]
    assert (sex["valueSet"], sex["concept"][1]["display"]) == ("http://lianxin.example/vs/sex", "男")
    expanded = call("GET", "ValueSet/lx-sex/$expand?displayLanguage=en").json["expansion"]["contains"]
    assert [row["display"] for row in expanded][1] == "Male"
    assert call("POST", "CodeSystem/$validate-code", {"resourceType": "Parameters", "parameter": [
        {"name": "codeSystem", "resource": sex}, {"name": "code", "valueCode": "1"}]}).status == 200  # fmt: skip


def test_nobody_else_changes_it(few: list[tuple[str, str, bytes]], call: Client) -> None:
    publish.load_shipped()
    body = call("GET", "ValueSet/administrative-gender").json
    body["title"] = "Mine"
    assert call("PUT", "ValueSet/administrative-gender", body).status == 403
    assert call("DELETE", "ValueSet/administrative-gender").status == 403


def test_a_new_archive_writes_only_what_differs(
    few: list[tuple[str, str, bytes]], call: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.load_shipped()
    changed = [(t, i, raw.replace(b'"display":"Male"', b'"display":"Man"')) for t, i, raw in few]
    monkeypatch.setattr(shipped, "every", lambda: changed)
    monkeypatch.setattr(publish, "STAMP", "urn:lianxin:another:")
    assert publish.load_shipped() == 1  # it is also the one that carries the stamp
    assert call("GET", "CodeSystem/administrative-gender").json["concept"][0]["display"] == "Man"
    assert call("GET", "CodeSystem/v3-ActCode").json["meta"]["versionId"] == "1"
    assert publish.load_shipped() == 0


def test_a_changed_table_is_stored_again(few: list[tuple[str, str, bytes]], call: Client) -> None:
    loader.load_shipped()
    publish.load_shipped()
    day = codes.system_on(codes.BASE + "rh")
    assert day is not None
    report = codes.import_codes("代码,名称\n1,阴性\n2,阳性\n9,待查\n".encode(), codes.BASE + "rh", "2026.9", day.effective_from.replace(year=2020))  # fmt: skip
    assert report.ok, report.errors
    assert publish.refresh() == 2
    assert publish.refresh() == 0
    assert publish.load_shipped() == 0
    assert [c["display"] for c in call("GET", "CodeSystem/lx-rh").json["concept"]][-1] == "待查"
