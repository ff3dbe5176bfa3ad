"""``lianxin documents``: clinical documents from files, folders and archives, through the same door as everything that comes in."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from lianxin.config.terminal import chinese, fail, progress, say


@click.command(short_help="Take clinical documents · 接收共享文档")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--institution",
    metavar="CODE",
    help="Sender (default: the custodian each document names) · 来源机构代码",
)
def documents(paths: tuple[Path, ...], institution: str | None) -> None:
    """Take CDA documents (WS/T 500, WS/T 483, C-CDA …) from files, folders and ZIP archives · 接收共享文档.

    A document known already is taken once. What is refused is kept with its reason, and the exit code is 1.
    """
    from lianxin.config import cli

    cli.boot()
    from dataclasses import replace

    from lianxin.access.scope import Scope
    from lianxin.exchange.cda import door, door_files
    from lianxin.network.models import Institution

    scope = Scope.system("documents by command")
    if institution:
        found = Institution.objects.filter(code=institution).first()
        if found is None:
            fail(f"没有代码为 {institution} 的机构", f"no institution has the code {institution}")
        scope = replace(scope, institution_id=found.pk)
    counted: Counter[str] = Counter()
    given = progress("documents", door_files.of_paths(paths))
    for one in door.each(scope, given, "command"):
        known = one.verdict.repeated or (one.registered is not None and one.registered.repeated)
        counted["known" if known else one.verdict.state] += 1
        if one.verdict.reason is not None:
            reason = one.verdict.reason
            words = reason.text.zh if chinese() else reason.text.en
            click.echo(f"{one.name}: {reason.code} {reason.place} {words}", err=True)
    said = [
        ("taken", "登记", "registered"), ("known", "此前已登记", "known before"),
        ("quarantined", "暂存待核", "kept for checking"), ("refused", "未受理", "refused"),
    ]  # fmt: skip
    say(
        "，".join(f"{zh} {counted[code]:,}" for code, zh, _ in said if counted[code]) or "没有文档",
        ", ".join(f"{en} {counted[code]:,}" for code, _, en in said if counted[code]) or "no documents",
    )
    cli.leave()
    sys.exit(1 if counted["refused"] or not counted else 0)
