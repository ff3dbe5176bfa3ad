"""The console command ``lianxin``. Each sub-command is thin: it starts what is needed and calls a room's function.

Django and the rooms are imported inside the commands, so that ``--help`` is instant and works without a database.
Messages are Chinese where ``LANG`` is Chinese, English elsewhere; ``token`` prints a token and nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lianxin.config.dicom_cli import dicom
from lianxin.config.documents_cli import documents
from lianxin.config.feeds_cli import feed, listen
from lianxin.config.index_cli import index
from lianxin.config.settlement_cli import settlement
from lianxin.config.tables_cli import tables
from lianxin.config.terminal import chinese, fail, progress, say


def boot(*, migrate: bool = False) -> None:
    """Start or adopt the embedded database (unless ``DATABASE_URL`` names another), load Django, optionally migrate.

    The embedded database is ours, so its structure is always brought up to date; without ``migrate``, a database of the user's
    that lacks migrations ends the command with a message that names the cure.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    from django.conf import settings

    from lianxin.config import database, postgres

    if database.embedded():
        try:
            postgres.attach(settings.HOME)
        except postgres.PostgresUnavailable as failure:
            fail(str(failure), str(failure))
    import django
    from django.utils import translation

    django.setup()
    translation.activate("zh-hans" if chinese() else "en")
    if migrate or database.embedded():
        apply_migrations()
        return
    from lianxin.config import health

    if reason := health.unready():
        fail(f"数据库未就绪：{reason}", reason)


def apply_migrations() -> bool:
    """Apply waiting migrations and load the shipped code systems; False when there was nothing to do."""
    from django.core.management import call_command

    from lianxin.config import health, migrating
    from lianxin.record import profiles
    from lianxin.record.terminology import publish
    from lianxin.standards import loader

    reason = health.unready()
    if not reason:
        return False
    if "migrations" not in reason:
        fail(f"数据库未就绪：{reason}", reason)
    say("正在建立数据库结构 …", "preparing the database …")
    with migrating.quick():
        call_command("migrate", verbosity=0, interactive=False)
    loader.load_shipped()
    publish.load_shipped()
    profiles.publish()
    return True


def leave() -> None:
    """Stop using the embedded database, waiting until it has stopped if we were its last user."""
    from django.conf import settings
    from django.db import connections

    from lianxin.config import postgres

    connections.close_all()
    postgres.detach(settings.HOME)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lianxin", prog_name="lianxin")
def main() -> None:
    """Lianxin 联心: the platform on which a medical consortium runs · 医联体信息平台."""


main.add_command(index)
main.add_command(documents)
main.add_command(settlement)
main.add_command(listen)
listen.add_command(dicom)
main.add_command(feed)
main.add_command(tables)


@main.command(short_help="Build the demonstration, serve it · 演示")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    envvar="PORT",
    default=8000,
    show_default=True,
    help="Port · 端口",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on · 监听地址")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Web worker processes (default: one per core) · 工作进程数"
)
@click.option(
    "--residents",
    type=click.IntRange(100, 1_000_000),
    default=20_000,
    show_default=True,
    help="Residents · 居民数",
)
@click.option(
    "--seed", type=int, default=2026, show_default=True, help="Seed of the synthetic county · 随机种子"
)
@click.option(
    "--reset", is_flag=True, help="Delete the embedded database and start anew · 删除内置数据库重新开始"
)
@click.option("--no-serve", is_flag=True, help="Build the data, then stop · 只建数据，不启动网站")
def demo(
    port: int, host: str, workers: int | None, residents: int, seed: int, reset: bool, no_serve: bool
) -> None:
    """Build the demonstration county once, then serve it · 建立演示县域并启动."""
    from lianxin.config import demo as demonstration

    sys.exit(
        demonstration.run(
            host=host,
            port=port,
            workers=workers,
            residents=residents,
            seed=seed,
            reset=reset,
            serving=not no_serve,
        )
    )


@main.command(short_help="Run web server, ticker and bulk workers · 运行")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    envvar="PORT",
    default=8000,
    show_default=True,
    help="Port · 端口",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on · 监听地址")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Web worker processes (default: one per core) · 工作进程数"
)
def serve(port: int, host: str, workers: int | None) -> None:
    """Run the web server, the ticker and the bulk workers · 运行网站、定时任务和批量任务."""
    from lianxin.config import serve as server

    boot()
    from django.conf import settings

    def ready() -> None:
        say(f"联心已启动：http://{host}:{port}/", f"Lianxin is up: http://{host}:{port}/")

    try:
        code = server.run(settings.HOME, host=host, port=port, workers=workers, ready=ready)
    except server.PortTaken as failure:
        fail(f"端口不可用：{failure}", f"cannot listen: {failure}")
    finally:
        leave()
    sys.exit(code)


@main.command(short_help="Update the database's structure · 升级")
def migrate() -> None:
    """Bring the database's structure up to date, and load the shipped code systems · 更新数据库结构."""
    boot(migrate=True)
    from lianxin.record import profiles
    from lianxin.record.terminology import publish
    from lianxin.standards import loader

    loader.load_shipped()
    publish.load_shipped()
    profiles.publish()
    say("数据库结构已是最新。", "the database is up to date")


def default_institution() -> str:
    """Code of the institution that data come from when nobody says: ``LIANXIN_INSTITUTION``, else the one consortium's lead, else
    the one that stands for sources outside the network."""
    if said := os.environ.get("LIANXIN_INSTITUTION"):
        return said
    from lianxin.network import directory
    from lianxin.network.models import Consortium

    leads = list(
        Consortium.objects.order_by("lead__code").values_list("lead__code", flat=True).distinct()[:6]
    )
    return str(leads[0]) if len(leads) == 1 else directory.outside().code


@main.command(short_help="Load FHIR data · 导入")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--institution", metavar="CODE", help="Sender (default: the consortium's lead) · 来源机构")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Parallel processes · 并行数"
)
@click.option(
    "--replay", "letters", multiple=True, metavar="NUMBER|all", help="Try dead letters again · 重试被拒的消息"
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON · 以 JSON 输出报告")
def load(
    paths: tuple[Path, ...], institution: str | None, jobs: int, letters: tuple[str, ...], as_json: bool
) -> None:
    """Load FHIR R4 bundles, NDJSON, .zip/.gz or folders · 导入 FHIR 数据.

    A file done before is skipped, so an interrupted load is resumed by giving the same command. What is refused is kept in the
    dead-letter list with its reason, and the exit code is 1.
    """
    if bool(paths) == bool(letters):
        raise click.UsageError(
            "give PATHS to load, or --replay NUMBER (or all) · 请给出文件，或 --replay 编号"
        )
    if any(letter != "all" and not letter.isdecimal() for letter in letters):
        raise click.BadParameter("a dead letter's number, or all · 应为编号或 all", param_hint="--replay")
    boot()
    from django.db import InterfaceError, OperationalError

    from lianxin.config import reports
    from lianxin.exchange import load as loading
    from lianxin.exchange.models import DeadLetter

    try:
        if letters:
            waiting = DeadLetter.objects.filter(replayed_at__isnull=True).values_list("pk", flat=True)
            report = loading.replay(
                list(waiting) if "all" in letters else [int(letter) for letter in letters]
            )
        else:
            source = institution or default_institution()
            report = loading.load(paths, institution=source, jobs=jobs, progress=progress)
    except (ValueError, FileNotFoundError) as refusal:
        fail(str(refusal), str(refusal))
    except (OperationalError, InterfaceError) as lost:
        fail(
            f"数据库中断（{type(lost).__name__}）。已导入的文件都已保存；数据库恢复后请再次运行同一命令，会跳过已导入的文件。",
            f"the database went away ({type(lost).__name__}). Files done are kept; when it is back, give the same command again: "
            "it skips them.",
        )
    click.echo(reports.as_json(report) if as_json else reports.as_text(report, chinese()))
    leave()
    sys.exit(1 if report.refused else 0)


@main.command(short_help="Index anew while serving · 重建索引")
@click.option(
    "--add", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the SearchParameter in this JSON file first · 先加入该文件中的查询参数",
)  # fmt: skip
@click.option(
    "--type", "rtypes", multiple=True, metavar="TYPE", help="Only this resource type · 只处理该资源类型"
)
@click.option("--status", "only_status", is_flag=True, help="Show how far runs are · 只显示进度")
def reindex(files: tuple[Path, ...], rtypes: tuple[str, ...], only_status: bool) -> None:
    """Index what is stored anew, while everything goes on: after an upgrade, or for a new search parameter · 重建索引.

    A run that was broken off goes on where it was; nothing is begun while one is unfinished.
    """
    boot()
    import orjson
    from django.db import connection, transaction

    from lianxin.record import custom, definitions, rows
    from lianxin.record import reindex as indexing
    from lianxin.record.problems import Problem

    wrong = [t for t in rtypes if t not in definitions.types()]
    if wrong:
        raise click.BadParameter(
            f"there is no resource type {wrong[0]} · 没有该资源类型", param_hint="--type"
        )

    def told(one: indexing.Progress) -> str:
        share = 100 if one.finished else one.done * 100 // max(one.total, 1)
        return f"{one.rtype or '*'}: {one.done:,} / {one.total:,} ({share} %), {one.changed:,} ±"

    if only_status:
        for one in indexing.status():
            click.echo(told(one))
        leave()
        return
    kinds = list(rtypes)
    try:
        for file in files:
            with transaction.atomic(), connection.cursor() as own:
                kinds += custom.add(rows.server_cursor(own), orjson.loads(file.read_bytes()))
    except (Problem, orjson.JSONDecodeError) as refusal:
        fail(str(refusal), str(refusal))
    if files or all(one.finished for one in indexing.status()):
        say("等待各进程得知……", "waiting until every process knows …")
        indexing.start(dict.fromkeys(kinds) or [""])
    indexing.run(tell=lambda one: click.echo(f"\r{told(one)}", nl=one.finished))
    leave()


@main.command(short_help="Export FHIR data · 导出")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Resource type, repeatable (default: all) · 资源类型",
)
@click.option(
    "--since", metavar="INSTANT", help="Only what changed later, with the deletions · 只导出此后变化的内容"
)
def export(folder: Path, types: tuple[str, ...], since: str | None) -> None:
    """Write the whole record as NDJSON into FOLDER, as it stands now, with a manifest · 把全部健康记录导出为 NDJSON.

    The files are plain: keep the folder as safe as the database. With --since, give the transactionTime of the last manifest.
    """
    import datetime as dt

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
    from lianxin.exchange.bulk import by_hand

    try:
        manifest = by_hand.export(folder, types, instant, lambda text: say(text.zh, text.en))
    except by_hand.Refused as refusal:
        fail(refusal.text.zh, refusal.text.en)
    count = sum(line["count"] for line in manifest["output"])
    say(
        f"已导出 {count:,} 个资源、{len(manifest['output'])} 个文件，数据时点 {manifest['transactionTime']}",
        f"exported {count:,} resources in {len(manifest['output'])} files, as of {manifest['transactionTime']}",
    )
    leave()


@main.command(short_help="Run a bulk worker alone · 批量任务进程")
def bulk_worker() -> None:
    """Run a bulk worker alone (`serve` runs them too), on a machine that shares the bulk folder · 单独运行批量任务进程."""
    boot()
    from lianxin.config import bulk_worker as worker

    worker.main()


@main.command(short_help="Build a named scenario · 场景")
@click.argument("name")
@click.option("--residents", type=click.IntRange(0, 10_000_000), help="Residents · 居民数")
@click.option("--seed", type=int, default=2026, show_default=True, help="Seed · 随机种子")
def scenario(name: str, residents: int | None, seed: int) -> None:
    """Build a named scenario through the platform's real doors · 建立指定场景."""
    boot(migrate=True)
    from lianxin.scenarios import demo as scenarios

    if name not in scenarios.NAMES:
        fail(
            f"没有场景 {name}，可用：{'、'.join(scenarios.NAMES)}",
            f"no scenario {name}: {', '.join(scenarios.NAMES)}",
        )
    scenarios.build(name, residents=residents, seed=seed, progress=progress)
    leave()


@main.command(short_help="Print a bearer token for a system · 令牌")
@click.option("--client", required=True, metavar="NAME", help="Name of the client system · 客户端系统名称")
@click.option("--scope", required=True, help='SMART scopes, such as "system/*.rs" · 权限范围')
@click.option("--institution", metavar="CODE", help="Institution it works for · 所属机构代码")
@click.option(
    "--hours",
    type=click.IntRange(1, 24 * 365),
    default=24 * 30,
    show_default=True,
    help="Valid for · 有效小时数",
)
def token(client: str, scope: str, institution: str | None, hours: int) -> None:
    """Issue a bearer token for a system; prints the token and nothing else · 签发访问令牌."""
    boot()
    from lianxin.access import tokens
    from lianxin.access.errors import AccessError

    try:
        issued = tokens.issue(client, scope, institution, hours=hours)
    except AccessError as refusal:
        fail(refusal.message.zh, refusal.message.en)
    click.echo(issued)
    leave()


@main.command(short_help="Verify accounts and chains · 核对")
def check() -> None:
    """Recount, replay and verify; exit 1 if anything disagrees · 核对账目、链条与状态."""
    boot()
    from lianxin.standards import checks

    found = 0
    for name, problems in checks.run():
        say(f"{'不一致' if problems else '一致'}　{name}", f"{'FAIL' if problems else 'ok  '}  {name}")
        for problem in problems:
            click.echo(f"{name}: {problem}")
        found += len(problems)
    if found:
        say(f"共 {found} 处不一致。", f"{found} disagreements")
    leave()
    sys.exit(1 if found else 0)


@main.command(short_help="Write a backup · 备份")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Write a backup of the whole database to FILE · 备份整个数据库."""
    boot()
    from lianxin.config import backup as backups

    try:
        size = backups.dump(file)
    except backups.BackupRefused as refusal:
        fail(str(refusal), str(refusal))
    say(
        f"已备份到 {file}（{size:,} 字节）。证件号码等密文只能用本安装的根密钥打开（LIANXIN_HOME/secret 或 LIANXIN_SECRET），"
        "密钥不在备份里，请另行妥善保管。",
        f"backed up to {file} ({size:,} bytes). Sealed identity numbers open only under this installation's root secret "
        "(LIANXIN_HOME/secret or LIANXIN_SECRET), which is not in the backup: keep it safe, and apart from it.",
    )
    leave()


@main.command(short_help="Restore into an empty database · 恢复")
@click.argument("file", type=click.Path(exists=True, path_type=Path, dir_okay=False))
def restore(file: Path) -> None:
    """Restore a backup into an empty database · 恢复到空数据库."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    from django.conf import settings

    from lianxin.config import backup as backups
    from lianxin.config import database, postgres

    if database.embedded():
        postgres.attach(settings.HOME)
    import django

    django.setup()
    try:
        backups.restore(file)
    except backups.BackupRefused as refusal:
        fail(str(refusal), str(refusal))
    apply_migrations()
    say("已恢复。请运行 lianxin check 核对。", "restored; run `lianxin check` to verify it")
    leave()


@main.command(
    short_help="Run a Django command · 管理命令",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def manage(arguments: tuple[str, ...]) -> None:
    """Run one of Django's own commands (lianxin manage COMMAND …) · 运行 Django 管理命令."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from lianxin.config import database, postgres

    if database.embedded():
        postgres.attach(settings.HOME)
    execute_from_command_line(["lianxin manage", *arguments])
    leave()


@main.command(short_help="Run the periodic work alone · 定时任务")
def ticker() -> None:
    """Run the periodic work alone (`serve` runs it too) · 单独运行定时任务."""
    boot()
    from lianxin.config import ticker as periodic

    periodic.main()


if __name__ == "__main__":
    main()
