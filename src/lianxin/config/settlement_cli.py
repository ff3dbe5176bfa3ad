"""``lianxin settlement FILE --control FILE``: hand in a settlement file too large for the page, from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from lianxin.config.terminal import chinese, fail


@click.command(short_help="Hand in a settlement file · 导入结算明细")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--control",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its control sheet · 对账单",
)
@click.option("--consortium", metavar="CODE", help="Consortium (default: the only one) · 医共体代码")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON · 以 JSON 输出")
def settlement(file: Path, control: Path | None, consortium: str | None, as_json: bool) -> None:
    """Read, check and compare a settlement file; it counts when it agrees with its control sheet · 导入医保结算明细.

    The same files again change nothing, so a run that was cut off is gone on with by the same command. Exit code 1: held or refused.
    """
    from lianxin.config.cli import boot, leave

    boot()
    from lianxin.access.scope import Scope
    from lianxin.exchange.settlement import batches, door
    from lianxin.exchange.settlement.models import ACCEPTED
    from lianxin.network.models import Consortium

    found = list(Consortium.objects.filter(code=consortium) if consortium else Consortium.objects.all()[:2])
    if len(found) != 1:
        fail("请用 --consortium 指明医共体代码", "name the consortium with --consortium")
    batch = batches.take(Scope.system("lianxin settlement"), found[0], file, control)
    told = door.answer(batch)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=1))
    elif why := batch.report.get("refused"):
        click.echo(why["zh" if chinese() else "en"])
    else:
        click.echo(
            f"{told['state']}: {told['rows']:,} 行 rows, {told['rejected']:,} 拒绝 refused, 总费用 total {told['total']},"
            f" 基金 fund {told['fund']}, {told['differences']} 处差异 differences"
        )
        for one in told["where"][:20]:
            click.echo(f"  {one['provider']} {one['scheme']} {one['month']}: {one['by']}")
    leave()
    sys.exit(0 if batch.state == ACCEPTED else 1)
