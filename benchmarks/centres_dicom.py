"""The image archive's doors: C-STORE of 40 KB images by dcmtk's storescu, durable before acknowledged, against 150 a second; STOW and WADO against
a bare file server that writes (synced) and reads the same bytes, with as many processes, in the same run.

    python benchmarks/centres_dicom.py [images]

Processor time is that of the server's processes (user and system, from /proc), so it is fair on a machine that has other work.
Images, orders and tokens are made up for it and taken away again; files are in a temporary archive.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")

import django  # noqa: E402

django.setup()

from django.db import connection  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402

from lianxin.access import seal, tokens  # noqa: E402
from lianxin.config import serve  # noqa: E402
from lianxin.duty.models import Case  # noqa: E402
from lianxin.index.models import Person  # noqa: E402
from lianxin.network.models import Institution  # noqa: E402
from lianxin.regional.archive.models import Device  # noqa: E402
from lianxin.regional.reading.models import Reading  # noqa: E402
from lianxin.standards import clock  # noqa: E402

LIMIT, SHARE = 150.0, 0.70
MARK, ACCESSION, NUMBER, AE = "BENCH-DICOM", "BD00000001", "9999999902", "BENCHCT"
STORESCU = "/usr/bin/storescu"
TICKS = os.sysconf("SC_CLK_TCK")
BOUNDARY = "b0undary"


def empty() -> None:
    """Everything that :func:`fill` and the run made is gone again (but the audit's rows, which nobody may delete)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM network_institution WHERE code = %s", [MARK])
        row = cursor.fetchone()
        if row is None:
            return
        for sql in (
            "DELETE FROM archive_instance WHERE study_id IN (SELECT id FROM archive_study WHERE institution_id = %s)",
            "DELETE FROM archive_series WHERE study_id IN (SELECT id FROM archive_study WHERE institution_id = %s)",
            "DELETE FROM archive_study WHERE institution_id = %s", "DELETE FROM archive_device WHERE institution_id = %s",
            "DELETE FROM reading_reading WHERE centre_of_id = %s", "DELETE FROM duty_case WHERE owner_institution_id = %s",
            "DELETE FROM access_token WHERE client_id IN (SELECT id FROM access_client WHERE institution_id = %s)",
            "DELETE FROM access_client WHERE institution_id = %s",
        ):  # fmt: skip
            cursor.execute(sql, row)
        cursor.execute("DELETE FROM index_person WHERE number = %s", [NUMBER])
        cursor.execute("DELETE FROM network_institution WHERE code = %s", [MARK])


def fill() -> tuple[Person, str]:
    """An institution with a device, a person and an order whose images come; the person, and a vendor's token."""
    here = Institution.objects.create(code=MARK, name=MARK, tier="county", kind="hospital")
    person = Person.objects.create(number=NUMBER, card_number=NUMBER, name="测速", pinyin="cesu", initials="cs", sex="male")  # fmt: skip
    now = clock.now()
    case = Case.objects.create(number=MARK, kind="reading", person_id=person.pk, state="acquired", priority="routine", pathway_start=now, opened_at=now,
                               changed_at=now, owner_institution=here, owner_role="reader", due_at=now)  # fmt: skip
    Reading.objects.create(case=case, requisition=MARK, accession=ACCESSION, person_id=person.pk, centre="imaging", modality="CT", orderer=here,
                           performer=here, centre_of=here, origin=here, ordered_at=now, report_due_at=now)  # fmt: skip
    Device.objects.create(ae_title=AE, name=AE, institution=here, created_at=now)
    return person, tokens.issue(MARK, "system/ImagingStudy.crs", MARK)


def made(person: Person, count: int, edge: int) -> list[tuple[Dataset, bytes]]:
    """Images of one series, ``edge`` pixels wide and high (two bytes each), with their files."""
    from tests.archive import world

    return [(one, world.written(one)) for one in world.series(person, ACCESSION, count, size=edge)]


def processor(pid: int) -> float:
    """Processor seconds (user and system) of a process and all its children."""
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return total


def free() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    """A server's process id, while it answers."""
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        if not serve.wait_until_up("127.0.0.1", port, 60, lambda: process.poll() is not None):
            raise SystemExit(f"it does not listen: {command}")
        yield process.pid
    finally:
        serve.stop([process])


def c_store(files: list[list[Path]], port: int, pid: int) -> tuple[float, float, float]:
    """Send with one storescu for each list; images a second, and processor ms an image of the server and of the clients."""
    count = sum(map(len, files))
    ours, theirs, began = processor(pid), _children(), time.perf_counter()
    senders = [
        subprocess.Popen([STORESCU, "-aet", AE, "-aec", "LIANXIN", "127.0.0.1", str(port), *map(str, part)], env=os.environ | {"TCP_NODELAY": "1"})
        for part in files
    ]  # fmt: skip
    if any(one.wait() for one in senders):
        raise SystemExit("storescu failed")
    seconds = time.perf_counter() - began
    return count / seconds, (processor(pid) - ours) / count * 1000, (_children() - theirs) / count * 1000


def _children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def timed(pid: int, count: int, work: Callable[[], None]) -> tuple[float, float]:
    """Images a second, and processor ms an image of the server."""
    used, began = processor(pid), time.perf_counter()
    work()
    return count / (time.perf_counter() - began), (processor(pid) - used) / count * 1000


class Client:
    """One kept-open connection."""

    def __init__(self, port: int, token: str = "") -> None:
        self.wire = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.wire.connect()
        self.wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The answer's body; ends the run for anything but success."""
        given = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        self.wire.request(method, path, body, given)
        answer = self.wire.getresponse()
        got = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {got[:300]!r}")
        return got


def compare(what: str, ours: tuple[float, float], bare: tuple[float, float]) -> None:
    """A line of the table."""
    print(
        f"{what}: {ours[0]:.0f} images/s ({ours[1]:.2f} ms processor each), bare file server {bare[0]:.0f}/s ({bare[1]:.2f} ms);"
        f" ratio {ours[0] / bare[0]:.2f} (asked {SHARE:.2f})",
        flush=True,
    )


def web(person: Person, token: str, environment: dict[str, str], folder: Path, count: int, edge: int) -> None:
    """STOW and WADO of one series beside the same files at the bare server."""
    from tests.archive import world

    images = made(person, count, edge)
    files = [file for _, file in images]
    what = f"{count} images of {len(files[0]) / 1000:.0f} KB"
    body = world.parts(files, BOUNDARY)
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    port, other = free(), free()
    bare = folder / f"bare{edge}"
    bare.mkdir()
    command = serve.web_command("127.0.0.1", port, 1)
    plain = [*serve.web_command("127.0.0.1", other, 1)[:-1], "benchmarks.peers.bare_files:application"]
    with (
        running(command, port, environment) as pid,
        running(plain, other, environment | {"BARE_FILES": str(bare)}) as peer,
    ):
        ours, theirs = Client(port, token), Client(other)
        with contextlib.suppress(SystemExit):
            ours.ask("GET", "/dicomweb/studies?limit=1")  # both are awake
        theirs.ask("POST", "/warm", b"x")
        stow = timed(pid, count, lambda: _stow(ours, body, kind))
        put = timed(peer, count, lambda: [theirs.ask("POST", f"/{n}.dcm", one) for n, one in enumerate(files)] and None)  # fmt: skip
        compare(f"STOW, {what} in one request", stow, put)
        study = f"/dicomweb/studies/{images[0][0].StudyInstanceUID}"
        series = f"{study}/series/{images[0][0].SeriesInstanceUID}/instances"

        def read() -> None:
            for n, one in enumerate(files):
                if theirs.ask("GET", f"/{n}.dcm") != one:
                    raise SystemExit("the bare server gave something else")

        def single() -> None:
            for image, one in images:
                if ours.ask("GET", f"{series}/{image.SOPInstanceUID}", Accept="application/dicom") != one:
                    raise SystemExit("an image came back otherwise")

        def whole() -> None:
            got = ours.ask("GET", study)
            if len(got) < sum(map(len, files)) or any(got.find(one[-200:]) < 0 for one in files[:3]):
                raise SystemExit("the study came back otherwise")

        for _ in range(2):  # the second time everything is warm
            bare_read, one_by_one, study_read = timed(peer, count, read), timed(pid, count, single), timed(pid, count, whole)  # fmt: skip
        compare(f"WADO, {what}, the study in one request", study_read, bare_read)
        compare(f"WADO, {what}, one request each", one_by_one, bare_read)


def _stow(client: Client, body: bytes, kind: str) -> None:
    client.ask("POST", "/dicomweb/studies", body, Content_Type=kind)


def dimse(person: Person, environment: dict[str, str], folder: Path, count: int) -> bool:
    """C-STORE with one association and with four; whether the rate asked was reached."""
    reached = True
    port = free()
    with running([sys.executable, "-m", "lianxin.config.dicom"], port, environment | {"LIANXIN_DICOM_PORT": str(port)}) as pid:  # fmt: skip
        for n, associations in enumerate((1, 1, 4)):
            paths = []
            for m, (_, file) in enumerate(made(person, count if n else 20, 141)):
                paths.append(folder / f"{n}-{m}.dcm")
                paths[-1].write_bytes(file)
            rate, server, client = c_store([paths[k::associations] for k in range(associations)], port, pid)
            if n == 0:  # it is awake
                continue
            reached &= rate >= LIMIT
            print(
                f"C-STORE, {count} images of {paths[0].stat().st_size / 1000:.0f} KB, {associations} association(s): {rate:.0f}/s"
                f" (asked {LIMIT:.0f}/s, ratio {rate / LIMIT:.2f}); processor {server:.2f} ms each, storescu {client:.2f} ms",
                flush=True,
            )
    return reached


def main() -> int:
    """Print the figures; 1 when C-STORE is slower than asked."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    if not Path(STORESCU).exists():
        print("C-STORE: needs Debian's dcmtk")
        return 1
    empty()
    folder = Path(tempfile.mkdtemp(prefix="bench-dicom-"))
    environment = {
        **os.environ, "LIANXIN_ARCHIVE_DIR": str(folder / "archive"), "LIANXIN_SECRET": seal.settings.SECRET.hex(), "LIANXIN_LOG": "ERROR",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }  # fmt: skip
    began = clock.now()
    try:
        person, token = fill()
        reached = dimse(person, environment, folder, count)
        web(person, token, environment, folder, count // 2, 141)
        web(person, token, environment, folder, max(20, count // 8), 512)
        print(f"({(clock.now() - began) / dt.timedelta(seconds=1):.0f} s)")
        return 0 if reached else 1
    finally:
        empty()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
