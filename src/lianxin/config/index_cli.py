"""``lianxin index``: the index's tools for a terminal. Each command is thin and calls a room's function."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from lianxin.config import index_batch_cli
from lianxin.config.terminal import fail, say


def _django() -> None:
    """Load Django without a database: what only computes needs no more."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    import django

    django.setup()


@click.group(short_help="Generate, evaluate and maintain the index · 主索引工具")
def index() -> None:
    """Tools of the index of people · 主索引工具."""


@index.command(short_help="Build all forms and keys anew · 重建比对索引")
def rebuild() -> None:
    """Build every person's comparable forms and keys anew from the sealed registrations, in one transaction (after an update of the
    normalisers, or when ``lianxin check`` says so). Registrations wait meanwhile · 重建全部比对形式与索引键."""
    _django()
    from django.db import connection, transaction

    from lianxin.index import active
    from lianxin.index import rebuild as building

    with transaction.atomic(), connection.cursor() as cur:
        cur.execute("LOCK TABLE index_form IN ACCESS EXCLUSIVE MODE")
        made = building.forms(
            cur,
            lambda done, total: say(f"{done:,} / {total:,}", f"{done:,} / {total:,}"),
            active.fresh(cur).generic,
        )
    say(f"已重建 {made:,} 份比对形式", f"{made:,} forms made anew")


@index.command(short_help="Write labelled synthetic registrations · 生成带标签的登记")
@click.option(
    "--people", type=click.IntRange(1, 50_000_000), default=10_000, show_default=True, help="People · 人数"
)
@click.option("--seed", type=int, default=2026, show_default=True, help="Same seed, same file · 随机种子")
@click.option(
    "--county",
    default="qinghe",
    show_default=True,
    help="Synthetic county: qinghe, yunshan, tianhu, gaoyuan, binjiang · 虚构县",
)
@click.option(
    "--per-person",
    type=click.FloatRange(1, 50),
    default=2.0,
    show_default=True,
    help="Registrations a person · 人均登记数",
)
@click.option(
    "--rates",
    "rates_file",
    metavar="FILE|other",
    help="YAML of error rates over the shipped ones; other: the second shipped set · 错误率文件",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file (default: standard output) · 输出文件",
)
def generate(
    people: int, seed: int, county: str, per_person: float, rates_file: str | None, out: Path | None
) -> None:
    """Write labelled registrations of a synthetic county as CSV, in order of arrival · 生成带真值与错误原因的登记 CSV."""
    _django()
    from lianxin.index import kit

    try:
        rates = kit.read_rates(rates_file)
        if out is None:
            kit.write_csv(sys.stdout, people, seed, county, per_person, rates)
            return
        with out.open("w", encoding="utf-8", newline="") as file:
            count = kit.write_csv(file, people, seed, county, per_person, rates)
    except (ValueError, OSError) as failure:
        fail(str(failure), str(failure))
    say(f"已写 {count:,} 条登记：{out}", f"{count:,} registrations of {people:,} people: {out}")


@index.command(short_help="Precision, recall, reviews on a labelled file · 评测")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["auto", "memory", "western", "database", "batch"]),
    default="auto",
    show_default=True,
    help="What decides; auto: western for a list in Latin letters, else memory; database: an empty one · 引擎",
)
@click.option(
    "--model",
    default="local",
    show_default=True,
    metavar="shipped|local|FILE",
    help="Weights; local: with the file's own frequencies · 模型",
)
@click.option(
    "--orders",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Other orders of arrival to try · 换序次数",
)
@click.option("--pairs", is_flag=True, help="Also rank all candidate pairs by score · 候选对排序")
@click.option(
    "--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column holds a field · 列映射"
)
@click.option("--limit", type=click.IntRange(1), help="Only the first registrations · 只取前若干条")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON · 以 JSON 输出")
def evaluate(
    file: Path,
    engine: str,
    model: str,
    orders: int,
    pairs: bool,
    maps: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Link a labelled CSV and compare with the truth: pairs, clusters, reviews, causes · 对带标签的 CSV 评测准确率."""
    mapping = dict(m.partition("=")[::2] for m in maps)
    if engine == "database":
        from lianxin.config.cli import boot

        boot()
    else:
        _django()
    from lianxin.index import kit
    from lianxin.index.kit import evaluate as evaluation

    try:
        labelled = kit.read_csv(file, mapping, limit=limit)
        report = evaluation.evaluate(
            labelled,
            engine=engine,
            model=model,
            orders=orders,
            pairs=pairs,
            told=lambda word: say(word, word),
        )
    except (ValueError, OSError) as failure:
        fail(str(failure), str(failure))
    click.echo(json.dumps(report, ensure_ascii=False, indent=1) if as_json else evaluation.text(report))


@index.command("import", short_help="Register a file of people · 导入名册")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--institution", required=True, metavar="CODE", help="Who registers them · 登记机构代码")
@click.option(
    "--system", default="", metavar="URI", help="Identifier domain of the local numbers · 院内号的标识域"
)
@click.option(
    "--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column holds a field · 列映射"
)
def take(file: Path, institution: str, system: str, maps: tuple[str, ...]) -> None:
    """Register everybody in a CSV (UTF-8, GB18030) or NDJSON of Patients; the same file again changes nothing · 导入居民名册.

    Lines that are refused are listed with their numbers, and the exit code is 1.
    """
    from lianxin.config.cli import boot, leave
    from lianxin.config.terminal import chinese

    boot()
    from lianxin.access.scope import Scope
    from lianxin.exchange.ihe import pixm
    from lianxin.exchange.rosters import reading, taking
    from lianxin.network.models import Institution

    found = Institution.objects.filter(code=institution).first()
    if found is None:
        fail(f"没有代码为 {institution} 的机构", f"no institution has the code {institution}")
    if system and not pixm.is_uri(system):
        fail(f"标识域应为 URI：{system}", f"the domain must be a URI: {system}")
    mapping = dict(m.partition("=")[::2] for m in maps)
    try:
        report = taking.take(
            Scope.system("lianxin index import"), file, found, system=system, mapping=mapping
        )
    except reading.Unreadable as failure:
        fail(failure.text.zh, failure.text.en)
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(report.outcomes.items()))
    say(
        f"共 {report.lines:,} 行：{told or '无'}；拒绝 {report.refused:,} 行",
        f"{report.lines:,} lines: {told or 'none'}; {report.refused:,} refused",
    )
    for number, text in report.refusals:
        click.echo(f"{file.name}:{number}: {text.zh if chinese() else text.en}", err=True)
    leave()
    sys.exit(1 if report.refused else 0)


@index.command("export", short_help="Write the cross-reference · 导出交叉索引")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file (default: standard output) · 输出文件",
)
@click.option(
    "--institution", metavar="CODE", help="Only what this institution may know · 只含该机构可知的内容"
)
@click.option("--since", metavar="INSTANT", help="Only what changed since · 只含此后变化的")
@click.option("--unmasked", is_flag=True, help="Names and birth dates in full: keep the file safe · 不脱敏")
def give(out: Path | None, institution: str | None, since: str | None, unmasked: bool) -> None:
    """Write which numbers belong to one person as CSV; names are masked unless told · 导出身份交叉索引（默认脱敏）."""
    import datetime as dt
    from dataclasses import replace

    from lianxin.config.cli import boot, leave

    instant = None
    if since:
        try:
            instant = dt.datetime.fromisoformat(since)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            raise click.BadParameter(
                "an instant with its zone, such as 2026-11-23T08:00:00+08:00 · 带时区的时刻",
                param_hint="--since",
            )
    boot()
    from lianxin.access import sharing
    from lianxin.access.scope import Scope, institutions_for
    from lianxin.exchange.rosters import giving
    from lianxin.network.models import Institution

    scope = Scope.system("lianxin index export")
    if institution:
        found = Institution.objects.filter(code=institution).first()
        if found is None:
            fail(f"没有代码为 {institution} 的机构", f"no institution has the code {institution}")
        ids = institutions_for(found)
        scope = replace(
            scope,
            everything=False,
            institution_id=found.pk,
            institution_ids=ids,
            partner_ids=sharing.partners(ids),
        )
    if out is None:
        giving.give(scope, sys.stdout, since=instant, masked=not unmasked)
    else:
        with out.open("w", encoding="utf-8-sig", newline="") as file:
            count = giving.give(scope, file, since=instant, masked=not unmasked)
        say(f"已写 {count:,} 行：{out}", f"{count:,} lines: {out}")
    leave()


for command in (
    index_batch_cli.load,
    index_batch_cli.train,
    index_batch_cli.relink,
    index_batch_cli.model,
):
    index.add_command(command)
