"""``lianxin demo``: from nothing to a served county in one command; in seconds the second time.

The order: database up → structure → code systems → the scenario (its own marker in the database says that it is whole) →
the real Synthea bundles of ``LIANXIN_SHARED``, when there → web server and ticker → address and accounts on the terminal.
"""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

from lianxin.config.terminal import chinese, fail, progress, say

SYNTHEA = ("data", "fhir", "synthea-100-bundles.zip")
SYNTHEA_INSTITUTION = "TT-RMYY"


def run(
    *,
    host: str,
    port: int,
    workers: int | None,
    residents: int,
    seed: int,
    reset: bool,
    serving: bool,
) -> int:
    """Build what is missing and serve until stopped; returns the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    from django.conf import settings

    from lianxin.config import cli, database, postgres
    from lianxin.config import serve as server

    began = time.monotonic()
    if serving:
        try:
            server.check_port(host, port)
        except server.PortTaken as taken:
            fail(
                f"端口不可用：{taken}。换一个端口：PORT=8080 make demo",
                f"cannot listen: {taken}; name another port: PORT=8080 make demo",
            )
    if reset:
        if not database.embedded():
            fail(
                "--reset 只用于内置数据库；DATABASE_URL 指向的数据库请自行新建",
                "--reset is for the embedded database only; make a new database for DATABASE_URL yourself",
            )
        try:
            postgres.destroy(settings.HOME)
        except postgres.PostgresUnavailable as refusal:
            fail(str(refusal), str(refusal))
    cli.boot(migrate=True)
    try:
        build(residents, seed)
        spent = time.monotonic() - began
        if not serving:
            say(f"演示数据已就绪（{spent:.0f} 秒）。", f"the demonstration is ready ({spent:.0f} s)")
            return 0
        return server.run(
            settings.HOME, host=host, port=port, workers=workers, ready=lambda: welcome(host, port, spent)
        )
    except server.PortTaken as taken:
        fail(f"端口不可用：{taken}", f"cannot listen: {taken}")
    finally:
        cli.leave()


def build(residents: int, seed: int) -> None:
    """Build the scenario and load the real bundles, whatever of it is missing."""
    from django.conf import settings

    from lianxin.scenarios import demo as scenarios

    scenarios.ensure(progress, residents=residents, seed=seed)
    bundles = settings.SHARED.joinpath(*SYNTHEA)
    if bundles.exists():
        load_once(bundles)


def load_once(bundles: Path) -> None:
    """Load the Synthea bundles unless as many members as the file has are done already."""
    from lianxin.exchange import load
    from lianxin.exchange.models import LoadRun

    with zipfile.ZipFile(bundles) as archive:
        wanted = {f"{bundles.name}/{member.filename}" for member in archive.infolist() if not member.is_dir()}
    done = LoadRun.objects.filter(institution__code=SYNTHEA_INSTITUTION, name__in=wanted)
    if done.values("name").distinct().count() >= len(wanted):
        return
    say(f"正在导入 {bundles.name} …", f"loading {bundles.name} …")
    report = load.load([bundles], institution=SYNTHEA_INSTITUTION, progress=progress)
    say(
        f"导入 {report.accepted:,} 条，拒绝 {report.refused:,} 条。",
        f"{report.accepted:,} resources accepted, {report.refused:,} refused",
    )


def welcome(host: str, port: int, seconds: float) -> None:
    """Print the address and an account for each role."""
    from lianxin.scenarios import demo as scenarios

    zh = chinese()
    say(
        f"\n联心已启动（{seconds:.0f} 秒）：http://{host}:{port}/\n",
        f"\nLianxin is up ({seconds:.0f} s): http://{host}:{port}/\n",
    )
    for account in scenarios.accounts():
        role = account.role.zh if zh else account.role.en
        line = (
            f"  {account.username:<22} {account.password:<16} {role} · {account.name} · {account.institution}"
        )
        say(line, line)
    say("\n按 Ctrl-C 停止；数据保留到下次。", "\nCtrl-C stops it; the data stay for the next start.")
