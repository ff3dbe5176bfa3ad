"""``lianxin export``: the operator's whole export into a folder."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from lianxin.access import connections
from lianxin.exchange.bulk import by_hand, slices
from lianxin.exchange.bulk.models import BulkJob
from tests.exchange.bulk_world import Bulk, fill

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.LIANXIN_BULK_DIR = tmp_path / "bulk"
    monkeypatch.setattr(slices, "SETTLE", 0.005)
    yield
    connections.close()


def test_the_whole_record_and_what_changed_since(tmp_path: Path) -> None:
    client = Bulk("platform")
    (pid,) = fill(client, 1, 3)
    told: list[str] = []
    manifest = by_hand.export(tmp_path / "all", told=lambda text: told.append(text.en))
    counts = {line["type"]: line["count"] for line in manifest["output"]}
    assert (counts["Patient"], counts["Observation"]) == (1, 3)
    assert told
    held = [json.loads(line) for line in (tmp_path / "all" / "Patient-0001.ndjson").read_bytes().splitlines()]
    assert [one["id"] for one in held] == [pid]
    assert json.loads((tmp_path / "all" / "manifest.json").read_text()) == manifest
    assert (tmp_path / "all" / "Patient-0001.ndjson").stat().st_mode & 0o077 == 0
    rid = client("GET", f"Observation?patient={pid}").json["entry"][0]["resource"]["id"]
    client("DELETE", f"Observation/{rid}")
    since = dt.datetime.fromisoformat(manifest["transactionTime"])
    later = by_hand.export(tmp_path / "later", ["Observation"], since)
    assert later["output"] == []
    assert rid in (tmp_path / "later" / later["deleted"][0]["url"]).read_text()
    assert not any((tmp_path / "bulk").glob("*/*")), "nothing is left behind"
    assert set(BulkJob.objects.values_list("status", flat=True)) == {"expired"}


def test_a_full_folder_or_an_unknown_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    for folder, types in ((tmp_path, ()), (tmp_path / "new", ("Nonsense",))):
        with pytest.raises(by_hand.Refused):
            by_hand.export(folder, types)
    assert not BulkJob.objects.exists()
