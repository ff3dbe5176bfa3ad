"""``lianxin listen`` and ``lianxin feed``: what comes in from other systems. Each command is thin and calls a room's function."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lianxin.config.terminal import fail, say


@click.group(short_help="Listen to other systems · 监听")
def listen() -> None:
    """Listen to other systems, in processes of their own · 独立运行的监听进程."""


@listen.command("hl7v2", short_help="HL7 v2 over MLLP · HL7 v2 监听")
@click.option("--port", type=click.IntRange(1, 65535), default=2575, show_default=True, help="Port · 端口")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on · 监听地址")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="On the one port · 进程数"
)
@click.option("--certificate", default="", help="PEM file: TLS · 证书文件（启用 TLS）")
@click.option("--key", default="", help="PEM file of its key · 私钥文件")
@click.option("--clients-ca", default="", help="Callers must show a certificate of it · 校验对方证书的 CA")
@click.option(
    "--most-mb", type=click.IntRange(1, 64), default=16, show_default=True, help="Largest message · 消息上限"
)
def hl7v2(
    port: int, host: str, processes: int, certificate: str, key: str, clients_ca: str, most_mb: int
) -> None:
    """Listen for HL7 v2 messages over MLLP (`serve` does when LIANXIN_MLLP_PORT is set) · 监听 HL7 v2（MLLP）消息."""
    from lianxin.config import cli, mllp

    cli.boot()

    def ready(at: int) -> None:
        say(f"正在监听 MLLP {host}:{at}", f"listening for MLLP on {host}:{at}")

    given = mllp.Options(host, port, processes, certificate, key, clients_ca, most_mb)
    try:
        code = mllp.run(given, ready)
    except (OSError, ValueError) as failure:
        fail(f"无法监听：{failure}", f"cannot listen: {failure}")
    finally:
        cli.leave()
    sys.exit(code)


@click.command(short_help="Take files of HL7 v2 messages · 导入消息文件")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--answers", type=click.Path(dir_okay=False, path_type=Path), help="Write the answers · 应答文件"
)
def feed(files: tuple[Path, ...], answers: Path | None) -> None:
    """Take files of HL7 v2 messages (with FHS/BHS or without), as if they came over the wire · 导入 HL7 v2 批量文件."""
    from lianxin.config import cli

    cli.boot()
    from lianxin.exchange.v2 import files as batch

    try:
        for file in files:
            done = batch.take(file.read_bytes())
            told = "，".join(f"{code or '-'} {n}" for code, n in sorted(done.codes.items()))
            total = sum(done.codes.values())
            say(f"{file.name}：{total} 条（{told}）", f"{file.name}: {total} messages ({told})")
            if answers is not None:
                with answers.open("ab") as out:
                    out.write(done.file())
    finally:
        cli.leave()
