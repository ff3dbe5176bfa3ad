"""The pages of bulk jobs: for the system administrator alone, with progress and a way to stop, without any data."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client as Browser

from lianxin.access import connections
from lianxin.exchange.bulk import runner, slices
from lianxin.exchange.bulk.models import BulkJob
from tests.exchange.bulk_world import Bulk, fill
from tests.portal.conftest import Town

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.LIANXIN_BULK_DIR = tmp_path / "bulk"
    monkeypatch.setattr(slices, "SETTLE", 0.005)
    yield
    connections.close()


@pytest.fixture
def job(town: Town) -> BulkJob:
    platform = Bulk("数据平台")
    fill(platform, 2)
    where = platform.begin("$export?_type=Patient,Nonsense", PREFER="handling=lenient")
    return BulkJob.objects.get(pk=where.rpartition("/")[2])


def test_a_job_is_seen_stopped_and_never_read(as_: Callable[[str], Browser], job: BulkJob) -> None:
    admin = as_("system_admin")
    listed = admin.get("/manage/bulk").content.decode()
    assert "数据平台" in listed
    assert f"/manage/bulk/{job.pk}" in listed
    assert "数据平台" not in admin.get("/manage/bulk?kind=import").content.decode()
    assert "等待开始" in admin.get(f"/manage/bulk/{job.pk}").content.decode()
    runner.drain()
    page = admin.get(f"/manage/bulk/{job.pk}").content.decode()
    assert "错误报告" in page
    assert admin.get("/manage/bulk?state=done").content.decode().count("data-line") == 1
    manifest = json.loads(admin.get(f"/manage/bulk/{job.pk}/manifest.json").content)
    assert [f["type"] for f in manifest["output"]] == ["Patient"]
    report, data = job.files.get(role="error"), job.files.get(role="output")
    told = b"".join(admin.get(f"/manage/bulk/{job.pk}/{report.pk}.ndjson").streaming_content)
    assert json.loads(told)["resourceType"] == "OperationOutcome"
    assert admin.get(f"/manage/bulk/{job.pk}/{data.pk}.ndjson").status_code == 404, (
        "administrators reach no patient"
    )
    assert "测试0" not in page
    english = as_("system_admin")
    english.cookies["lianxin_lang"] = "en"
    assert "Files kept until" in english.get(f"/manage/bulk/{job.pk}").content.decode()
    assert admin.get(f"/manage/bulk/{job.pk}/cancel").status_code == 405
    assert admin.post(f"/manage/bulk/{job.pk}/cancel").status_code == 302
    job.refresh_from_db()
    assert job.status == "expired"
    assert admin.get(f"/manage/bulk/{job.pk}/manifest.json").status_code == 404


def test_a_waiting_job_is_cancelled(as_: Callable[[str], Browser], job: BulkJob) -> None:
    admin = as_("system_admin")
    assert "任务已取消" in admin.post(f"/manage/bulk/{job.pk}/cancel", follow=True).content.decode()
    job.refresh_from_db()
    assert job.status == "cancelled"


def test_nobody_else_enters(as_: Callable[[str], Browser], job: BulkJob) -> None:
    for key in ("gp0", "manager", "security_admin", "audit_admin"):
        other = as_(key)
        for path in ("/manage/bulk", f"/manage/bulk/{job.pk}", f"/manage/bulk/{job.pk}/manifest.json"):
            assert other.get(path).status_code == 403, (key, path)
        assert other.post(f"/manage/bulk/{job.pk}/cancel").status_code == 403
