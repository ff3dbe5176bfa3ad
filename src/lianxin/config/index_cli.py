"""``lianxin index``: the index's tools for a terminal. Each command is thin and calls a room's function."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from lianxin.config.terminal import fail, say


def _django() -> None:
    """Load Django without a database: what only computes needs no more."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    import django

    django.setup()


@click.group(short_help="Generate, evaluate and maintain the index · 主索引工具")
def index() -> None:
    """Tools of the index of people · 主索引工具."""


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
    say(f"已写 {count:,} 条登记:{out}", f"{count:,} registrations of {people:,} people: {out}")


@index.command(short_help="Precision, recall, reviews on a labelled file · 评测")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["memory", "database", "batch"]),
    default="memory",
    show_default=True,
    help="What decides (database: an empty one) · 引擎",
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
