"""``lianxin tables list | template | load | source | run | work``: tables as a feed, from a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lianxin.config.terminal import fail, say


def _boot() -> None:
    from lianxin.config.cli import boot

    boot()


@click.group(short_help="Tables as a feed: CSV, Excel, database views · 表格采集")
def tables() -> None:
    """Take tables in: files, and read-only views of partners' databases · 表格采集."""


@tables.command("list", short_help="What a table can be, and the sources · 目标与来源")
def listing() -> None:
    """What a table can become, and every source with its last run."""
    _boot()
    from lianxin.exchange.tables import running
    from lianxin.exchange.tables.models import TableSource
    from lianxin.exchange.tables.targets import targets

    for one in targets().values():
        say(f"{one.code:14} {one.name.zh}：{one.about.zh}", f"{one.code:14} {one.name.en}: {one.about.en}")
    for source in TableSource.objects.select_related("institution").order_by("pk"):
        last = source.runs.order_by("-pk").first()
        figures = vars(running.figures_of(last)) if last else {}
        click.echo(
            f"#{source.pk} {source.institution.code} {source.name} [{source.target}] {last.state if last else ''} {json.dumps(figures)}"
        )


@tables.command(short_help="Write an Excel template · 生成模板")
@click.argument("target")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def template(target: str, file: Path) -> None:
    """Write the Excel template of TARGET to FILE."""
    _boot()
    from lianxin.exchange.tables import workbook
    from lianxin.exchange.tables.targets import targets

    if target not in targets():
        fail(
            f"没有“{target}”，可用：{', '.join(targets())}",
            f"no such target: {target} (there are: {', '.join(targets())})",
        )
    file.write_bytes(workbook.template(targets()[target]))


def _institution(code: str) -> Any:
    from lianxin.network.models import Institution

    found = Institution.objects.filter(code=code).first()
    if found is None:
        fail(f"没有代码为 {code} 的机构", f"no institution has the code {code}")
    return found


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    return dict(one.partition("=")[::2] for one in given)


@tables.command(short_help="Load a file · 导入文件")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--institution", "code", required=True, help="Whose table it is · 机构代码")
@click.option("--target", default="", help="What it is (default: told from the columns) · 内容")
@click.option("--name", default="", help="Source (default: the target's name) · 来源名称")
@click.option(
    "--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column holds a field · 列对应"
)
@click.option("--dry", is_flag=True, help="Only look at it · 试运行")
@click.option("--lanes", type=click.IntRange(1, 16), default=1, show_default=True, help="Processes · 进程数")
def load(file: Path, code: str, target: str, name: str, maps: tuple[str, ...], dry: bool, lanes: int) -> None:
    """Take FILE (CSV or .xlsx); the same file again changes nothing · 导入表格，可重复执行."""
    _boot()
    from lianxin.exchange.tables import by_hand, running
    from lianxin.exchange.tables.reading import Unreadable

    try:
        run = by_hand.prepared(file, _institution(code), target, name, _pairs(maps), dry=dry, lanes=lanes)
    except Unreadable as failure:
        fail(failure.text.zh, failure.text.en)
    by_hand.do(run)
    run.refresh_from_db()
    figures = running.figures_of(run)
    for one in run.refusals.order_by("row")[:20]:
        say(f"  第 {one.row} 行 {one.column}：{one.zh}", f"  row {one.row} {one.column}: {one.en}")
    click.echo(json.dumps({"run": run.pk, "state": run.state, **vars(figures)}, ensure_ascii=False))
    if run.error_zh:
        fail(run.error_zh, run.error_en)
    if figures.refused:
        sys.exit(2)


@tables.command(short_help="Enter a database view · 登记数据库视图")
@click.argument("url")
@click.argument("view")
@click.option("--institution", "code", required=True, help="Whose it is · 机构代码")
@click.option("--target", required=True, help="What it is · 内容")
@click.option("--name", required=True, help="Name of the source · 来源名称")
@click.option("--mark", default="", help="Watermark column · 水位列")
@click.option("--overlap", type=click.IntRange(0), default=3600, show_default=True, help="Overlap · 重叠")
@click.option(
    "--every", type=click.IntRange(0), default=0, help="Seconds between runs (0: by hand) · 间隔秒数"
)
@click.option(
    "--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column holds a field · 列对应"
)
def source(
    url: str,
    view: str,
    code: str,
    target: str,
    name: str,
    mark: str,
    overlap: int,
    every: int,
    maps: tuple[str, ...],
) -> None:
    """Enter VIEW of the database at URL as a source, mapping in use at once. SQLite files may be given here, and this machine's own databases."""
    _boot()
    from lianxin.exchange.tables import by_hand
    from lianxin.exchange.tables.reading import Unreadable

    try:
        made = by_hand.view(
            _institution(code),
            url,
            view,
            target,
            name,
            mark=mark,
            overlap=overlap,
            every=every,
            chosen=_pairs(maps),
        )
    except Unreadable as failure:
        fail(failure.text.zh, failure.text.en)
    say(f"已登记来源 #{made.pk}：{made.shown}", f"entered source #{made.pk}: {made.shown}")


@tables.command(short_help="Run a source, or go on with a run · 运行来源")
@click.argument("pk", type=int)
@click.option("--resume", "going_on", is_flag=True, help="PK is a run that stopped · PK 为已停止的运行")
def run(pk: int, going_on: bool) -> None:
    """Read the view of source PK now; with --resume go on with run PK behind its last chunk."""
    _boot()
    from lianxin.exchange.tables import by_hand, running, schedule
    from lianxin.exchange.tables.models import TableRun, TableSource

    if going_on:
        it = TableRun.objects.get(pk=pk)
        running.resume(it)
    else:
        begun = schedule.start(TableSource.objects.get(pk=pk))
        if begun is None:
            fail("没有启用的列对应，或已有一次运行", "no mapping in use, or a run is on its way")
        it = begun
    by_hand.do(it)
    it.refresh_from_db()
    click.echo(
        json.dumps({"run": it.pk, "state": it.state, **vars(running.figures_of(it))}, ensure_ascii=False)
    )
    if it.error_zh:
        fail(it.error_zh, it.error_en)


@tables.command(short_help="Do waiting runs until told to stop · 后台处理")
def work() -> None:
    """A worker process: does runs as they come; start as many as there are cores to spare."""
    _boot()
    from lianxin.config import process
    from lianxin.exchange.tables import running

    running.worker(process.told_to_stop())
