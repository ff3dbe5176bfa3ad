"""``lianxin listen dicom``: the DICOM door alone."""

from __future__ import annotations

import os
import sys

import click

from lianxin.config.terminal import fail, say


@click.command("dicom", short_help="DICOM devices · DICOM 监听")
@click.option("--port", type=click.IntRange(1, 65535), default=11112, show_default=True, help="Port · 端口")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on · 监听地址")
@click.option(
    "--processes", type=click.IntRange(1, 32), default=1, show_default=True, help="On the one port · 进程数"
)
def dicom(port: int, host: str, processes: int) -> None:
    """Listen for DICOM devices (`serve` does when LIANXIN_DICOM_PORT is set) · 监听 DICOM 设备."""
    from lianxin.config import cli
    from lianxin.config import dicom as door

    os.environ |= {
        "LIANXIN_DICOM_PORT": str(port),
        "LIANXIN_DICOM_HOST": host,
        "LIANXIN_DICOM_PROCESSES": str(processes),
    }
    cli.boot()
    try:
        code = door.run(lambda at: say(f"正在监听 DICOM {host}:{at}", f"listening for DICOM on {host}:{at}"))
    except (OSError, ValueError) as failure:
        fail(f"无法监听：{failure}", f"cannot listen: {failure}")
    finally:
        cli.leave()
    sys.exit(code)
