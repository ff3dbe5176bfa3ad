"""What the pages of tables share: who may see and do what, files that came, downloads."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from lianxin.access.errors import NotPermitted
from lianxin.access.policies import refusal
from lianxin.access.scope import Scope
from lianxin.exchange.tables import (
    files,
    reading,
    recognise,
    running,
)
from lianxin.exchange.tables.models import (
    DONE,
    FAILED,
    FILE,
    RUNNING,
    STOPPED,
    WAITING,
    TableMapping,
    TableRun,
    TableSource,
)
from lianxin.exchange.tables.reading import Layout
from lianxin.exchange.tables.targets import target, targets
from lianxin.standards.text import T

PAGE = 50
SHOWN = 1_000
SAMPLE = 200
PREVIEW = 5
INLINE = 512 * 1024
"""Files up to this size are run while the browser waits."""
STATES = {
    WAITING: T("等待", "Waiting"), RUNNING: T("进行中", "Running"), STOPPED: T("已停止", "Stopped"), DONE: T("完成", "Done"),
    FAILED: T("失败", "Failed"),
}  # fmt: skip


def may(scope: Scope, source: TableSource | None = None) -> bool:
    own = source is None or source.institution_id in scope.institution_ids or scope.everything
    return own and (scope.may("mend_feeds") or scope.may("review_links"))


def content(scope: Scope, source: TableSource) -> bool:
    """Whether what rows say may be shown: the index desk, and those who keep the people of the institution; no administrator."""
    return may(scope, source) and (scope.may("open_message") or scope.may("review_links"))


def demand_content(scope: Scope, source: TableSource) -> None:
    """Who reads rows as they were sent."""
    demand(scope, source)
    if not content(scope, source):
        raise NotPermitted(refusal("open_message"))


def demand(scope: Scope, source: TableSource | None = None) -> None:
    """Who changes or runs something: mend_feeds or review_links, in one's own institution."""
    if not (scope.may("mend_feeds") or scope.may("review_links")):
        raise NotPermitted(refusal("mend_feeds"))
    if scope.institution_id is None and not scope.everything:
        raise NotPermitted(T("请先选择所在机构的岗位。", "Choose a post at an institution first."))
    if not may(scope, source):
        raise NotPermitted(
            T("只能办理本机构的表格来源。", "Sources of tables are one's own institution's only.")
        )


def visible(scope: Scope) -> Any:
    """Sources that may be looked at: of one's institution, and of those one oversees."""
    if not (scope.may("see_feeds") or scope.may("mend_feeds") or scope.may("review_links")):
        raise NotPermitted(refusal("see_feeds"))
    rows = TableSource.objects.select_related("institution")
    return (
        rows
        if scope.everything
        else rows.filter(institution_id__in=scope.institution_ids | scope.oversight_ids)
    )


def source_of(scope: Scope, pk: int) -> TableSource:
    return get_object_or_404(visible(scope), pk=pk)


def run_of(scope: Scope, pk: int) -> TableRun:
    found = get_object_or_404(TableRun.objects.select_related("source__institution", "mapping"), pk=pk)
    get_object_or_404(visible(scope), pk=found.source_id)
    return found


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def download(data: bytes, name: str, kind: str) -> HttpResponse:
    response = HttpResponse(data, content_type=kind)
    response["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
    return response


def looked(stored: str, chosen: str, known: list[str] | None = None) -> tuple[str, Layout]:
    """What a kept file is: the target (guessed when none was chosen) and its layout."""
    words = known or (
        list(target(chosen).known()) if chosen else [w for t in targets().values() for w in t.known()]
    )
    with files.opened(stored) as begin:
        kind = reading.kind_of(begin)
    with files.opened(stored, anywhere=kind == "xlsx") as file:
        layout = reading.look(file, words)
    return chosen or recognise.guess(layout.columns).code, layout


def uploaded(
    request: HttpRequest, source: TableSource, mapping: TableMapping, stored: str, size: int, name: str | None
) -> TableRun:
    """The file as a dry run that waits."""
    run = TableRun(
        source=source, mapping=mapping, dry=True, stored=stored, size=size, filename=(name or "")[:200], account_id=request.scope.account_id
    )  # fmt: skip
    return running.begin(run)


def at_once(run: TableRun) -> None:
    """Small files are done while the browser waits; larger ones by the worker."""
    if run.size <= INLINE and run.source.kind == FILE:
        running.run_lane(run.pk)
