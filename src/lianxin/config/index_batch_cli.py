"""``lianxin index load | train | relink | model``: batches of the index, from a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from lianxin.config.terminal import fail, say

ENGINES = click.Choice(["duckdb", "spark"])


def _boot() -> Any:
    from lianxin.config.cli import boot

    boot()
    from lianxin.access.scope import Scope

    return Scope.system("command line: index batch")


def _stage(word: str) -> None:
    say(word, word)


def _refused(error: Any) -> None:
    fail(error.message.zh, error.message.en)


@click.command(short_help="Load a file of registrations · 批量导入登记")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--institution", "code", help="Who registers them all (else the file's column) · 登记机构代码")
@click.option(
    "--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column holds a field · 列映射"
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes · 进程数"
)
@click.option("--memory", default="8GB", show_default=True, help="Memory of the link · 关联内存上限")
def load(file: Path, code: str | None, maps: tuple[str, ...], processes: int, memory: str) -> None:
    """Load a CSV file of registrations; the same file again changes nothing · 批量导入 CSV 登记，可重复执行."""
    scope = _boot()
    from lianxin.access.errors import AccessError
    from lianxin.index.batch import load as loading
    from lianxin.network.models import Institution

    institution = None
    if code is not None:
        institution = Institution.objects.filter(code=code).first()
        if institution is None:
            fail(f"没有代码为 {code} 的机构", f"no institution has the code {code}")
    try:
        done = loading.load(
            scope,
            file,
            institution=institution,
            mapping=dict(m.partition("=")[::2] for m in maps),
            processes=processes,
            memory=memory,
            told=_stage,
        )
    except AccessError as error:
        _refused(error)
    except (ValueError, OSError) as error:
        fail(str(error), str(error))
    for place, why in done.bad[:20]:
        say(f"  第 {place} 条：{why}", f"  {place}: {why}")
    say(
        f"登记 {done.registrations:,}，新建 {done.created:,} 人，已有且未变 {done.same:,}，更新 {done.updated:,}，"
        f"待复核 {done.reviews:,}，未收 {done.refused:,}",
        f"{done.registrations:,} registrations: {done.created:,} new people, {done.same:,} known and unchanged,"
        f" {done.updated:,} updated, {done.reviews:,} to review, {done.refused:,} refused",
    )
    click.echo(json.dumps({"stages": done.stages, "figures": done.figures}, ensure_ascii=False))
    if done.refused:
        sys.exit(2)


@click.command(short_help="Learn weights from the index's own registrations · 训练权重")
@click.option("--version", "version", required=True, help="Name of the new version · 新版本名")
@click.option("--engine", type=ENGINES, default="duckdb", show_default=True, help="Batch engine · 引擎")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes · 进程数"
)
def train(version: str, engine: str, processes: int) -> None:
    """Train a model without labels and keep it; it is not used until made active · 无标注训练并保存模型."""
    scope = _boot()
    from lianxin.access.errors import AccessError
    from lianxin.index.batch import versions
    from lianxin.index.batch.spark import SparkMissing

    try:
        row = versions.train_from_index(scope, version, engine=engine, processes=processes, told=_stage)
    except AccessError as error:
        _refused(error)
    except SparkMissing as error:
        fail(str(error), str(error))
    click.echo(json.dumps(row.training, ensure_ascii=False, indent=1))


@click.command(short_help="Link everybody anew, as a proposal · 重新关联(方案)")
@click.option("--model", "version", required=True, help="Version of the weights, or shipped · 模型版本")
@click.option("--engine", type=ENGINES, default="duckdb", show_default=True, help="Batch engine · 引擎")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes · 进程数"
)
def relink(version: str, engine: str, processes: int) -> None:
    """Link everybody with other weights; differences wait for a person · 以另一模型重新关联，差异待人审批."""
    scope = _boot()
    from lianxin.access.errors import AccessError
    from lianxin.index.batch import propose, versions
    from lianxin.index.batch.spark import SparkMissing

    try:
        proposal = propose.propose(
            scope, versions.find(version), engine=engine, processes=processes, told=_stage
        )
    except AccessError as error:
        _refused(error)
    except SparkMissing as error:
        fail(str(error), str(error))
    say(f"方案 {proposal.pk} 待审批", f"proposal {proposal.pk} waits for a person")
    click.echo(json.dumps(proposal.figures, ensure_ascii=False, indent=1))


@click.group(short_help="Versions of the weights · 模型版本")
def model() -> None:
    """Versions of the index's weights · 权重版本."""


@model.command("list", short_help="All versions · 列出版本")
def list_models() -> None:
    """Versions that are kept; the active one is marked · 列出版本,* 为在用."""
    _boot()
    from lianxin.index.models import IndexModel

    rows = list(IndexModel.objects.order_by("pk"))
    for row in rows:
        click.echo(f"{'*' if row.active else ' '} {row.version}  {row.made_at:%Y-%m-%d %H:%M}")
    if not any(row.active for row in rows):
        click.echo("* shipped")


@model.command(short_help="Use a version from now on · 启用版本")
@click.argument("version")
def activate(version: str) -> None:
    """Weigh registrations with this version from now on (shipped: the one that ships) · 启用该版本."""
    scope = _boot()
    from lianxin.access.errors import AccessError
    from lianxin.index.batch import versions

    try:
        versions.activate(scope, version)
    except AccessError as error:
        _refused(error)


@model.command(short_help="Write a version as JSON · 导出")
@click.argument("version")
@click.option("--splink", is_flag=True, help="m and u in Splink's layout · Splink 格式")
def export(version: str, splink: bool) -> None:
    """Write a model to standard output · 导出模型."""
    _boot()
    from lianxin.access.errors import AccessError
    from lianxin.index.batch import versions

    try:
        found = versions.find(version)
    except AccessError as error:
        _refused(error)
    if splink:
        click.echo(json.dumps(versions.to_splink(found), ensure_ascii=False, indent=1))
    else:
        click.echo(found.dump().decode())


@model.command("import", short_help="Keep a model from a file · 导入")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--version", "version", required=True, help="Name of the new version · 新版本名")
@click.option("--splink", is_flag=True, help="The file is a Splink model · Splink 格式")
@click.option(
    "--start", default="shipped", show_default=True, help="Where missing weights come from · 其余权重取自"
)
def import_model(file: Path, version: str, splink: bool, start: str) -> None:
    """Keep a model from a file, not active · 导入模型，不自动启用."""
    scope = _boot()
    from dataclasses import replace

    from lianxin.access.errors import AccessError
    from lianxin.index.batch import versions
    from lianxin.index.match import model as models

    try:
        if splink:
            made = versions.from_splink(file.read_text("utf-8"), version, versions.find(start))
        else:
            made = replace(models.load(file.read_bytes()), version=version)
        versions.keep(scope, made)
    except AccessError as error:
        _refused(error)
    except (ValueError, KeyError, TypeError) as error:
        fail(f"不是模型文件：{error}", f"not a model file: {error}")
