"""HL7 v2 in: the parser alone, and messages end to end over MLLP from another process, each answered after its commit.

    python -m benchmarks.feeds_v2 parser
    python -m benchmarks.feeds_v2 wire [--messages 20000] [--people 5000] [--connections 48] [--processes 2] [--window 1]

``wire`` needs an empty database of its own (``DATABASE_URL``, migrated).  It registers an institution and a sender, starts
``lianxin listen``, feeds the people once, then sends the mix: half ORU^R01 with three to six results, half ADT (A01, A08, A31), nine of
ten about people who are known.  Every acknowledged message is afterwards looked for in the database: kept once, its resources there.
The peer in the same run is PostgreSQL itself: the same raw bytes by COPY into a bare table, one commit for each batch of the same
size, over two connections.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("LIANXIN_SHARED", "/nowhere")) / "data/hl7v2/simhospital-messages.hl7"
TARGET_WIRE, TARGET_PARSER = 1500, 50_000
START, END = b"\x0b", b"\x1c\r"
ANALYTES = [
    ("718-7", "血红蛋白", "g/L", 90, 170), ("6690-2", "白细胞", "10*9/L", 3, 12), ("777-3", "血小板", "10*9/L", 90, 350),
    ("2345-7", "葡萄糖", "mmol/L", 3, 12), ("2160-0", "肌酐", "umol/L", 40, 130), ("1742-6", "谷丙转氨酶", "U/L", 5, 90),
    ("2823-3", "钾", "mmol/L", 3, 6), ("2951-2", "钠", "mmol/L", 130, 150),
]  # fmt: skip
SURNAMES, GIVEN = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许",
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰",
)


def person(n: int) -> tuple[str, str, str, str]:
    """Number, name, birth date and sex of the made-up person ``n``."""
    draw = random.Random(n)
    name = draw.choice(SURNAMES) + "".join(draw.choice(GIVEN) for _ in range(2)) + chr(0x4E00 + n % 5000)
    born = f"{draw.randint(1935, 2015)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}"
    return f"M{n:07}", name, born, draw.choice("MF")


def pid(n: int, phone: str = "") -> str:
    """The PID segment of a person."""
    number, name, born, sex = person(n)
    phone = phone or f"139{n:08}"
    return f"PID|1||{number}^^^BENCH^MR||{name}||{born}|{sex}|||某街{n % 97}号^^天台^浙江^^^H||{phone}^PRN^CP"


def head(kind: str, control: str, at: str) -> str:
    """MSH."""
    return f"MSH|^~\\&|BENCH|BENCH|LIANXIN|LX|{at}||{kind}|{control}|P|2.5||||||UNICODE UTF-8"


def adt(event: str, n: int, control: str, visit: int, at: str, phone: str = "") -> bytes:
    """An admission, or a change of the patient."""
    lines = [head(f"ADT^{event}^ADT_{event}", control, at), f"EVN|{event}|{at}", pid(n, phone)]
    if event in ("A01", "A08"):
        lines.append(
            f"PV1|1|I|W{visit % 20}^{visit % 60}^1^BENCH||||D{visit % 90}^某医生{visit % 90}|||||||||||I|V{visit}|||||||||||||||||||||||||{at}"
        )
    return "\r".join(lines).encode()


def oru(n: int, control: str, order: int, at: str, draw: random.Random) -> bytes:
    """A report of three to six results."""
    lines = [
        head("ORU^R01^ORU_R01", control, at), pid(n), f"PV1|1|O|MZ^^^BENCH|||||||||||||||O|V{order}",
        f"ORC|RE|P{order}|F{order}||CM||||{at}",
        f"OBR|1|P{order}|F{order}|58410-2^血常规^LN|||{at}|||||||{at}||D{order % 90}^某医生||||||{at}||LAB|F",
    ]  # fmt: skip
    for i, (code, name, unit, low, high) in enumerate(draw.sample(ANALYTES, draw.randint(3, 6)), 1):
        value = round(draw.uniform(low, high), 1)
        lines.append(f"OBX|{i}|NM|{code}^{name}^LN||{value}|{unit}|{low}-{high}|N|||F|||{at}")
    return "\r".join(lines).encode()


def mix(count: int, people: int, seed: int, day: str = "20260301") -> list[tuple[bytes, bytes]]:
    """(control id, message) of the mix."""
    draw = random.Random(seed)
    out = []
    for n in range(count):
        who = draw.randrange(people) if draw.random() < 0.95 else people + draw.randrange(people)
        at = f"{day}{8 + n * 10 // count:02}{n // 60 % 60:02}{n % 60:02}"
        control = f"B{seed}-{n}"
        if draw.random() < 0.5:
            raw = oru(who, control, seed * 10**7 + n, at, draw)
        else:
            event = draw.choice(["A01", "A01", "A08", "A31"])
            phone = f"137{draw.randrange(10**8):08}" if event == "A31" else ""
            raw = adt(event, who, control, seed * 10**7 + n, at, phone)
        out.append((control.encode(), raw))
    return out


# ------------------------------------------------------------------------------------------------------------------- parser


def _rate(work: Any, messages: list[bytes], seconds: float = 2.0) -> float:
    """Messages a second of CPU time."""
    done, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for one in messages:
            work(one)
        done += len(messages)
    return done / (time.process_time() - began)


def parser() -> dict[str, Any]:
    """Messages a second and core: this house's parser (read, and read with every value asked for), python-hl7, hl7apy."""
    import hl7
    from hl7apy.parser import parse_message

    from lianxin.exchange.v2 import framing, message

    if SHARED.exists():
        messages, source = list(framing.messages(SHARED.read_bytes())), "shared"
    else:
        messages, source = [raw for _, raw in mix(1000, 5000, 1)], "synthetic"

    def every(data: bytes) -> None:
        for segment in message.parse(data).segments:
            for n in range(1, len(segment.fields)):
                segment.text(n)

    texts = {m: m.decode("utf-8", "replace") for m in messages}
    plain = {m: "\r".join(t.splitlines()) for m, t in texts.items()}
    found = {
        "messages": source,
        "bytes": round(sum(map(len, messages)) / len(messages)),
        "read": _rate(message.parse, messages),
        "read, every first value": _rate(every, messages),
        "python-hl7": _rate(lambda m: hl7.parse(plain[m]), messages[:200]),
        "hl7apy": _rate(lambda m: parse_message(plain[m], find_groups=False), messages[:20]),
    }
    found["ratio to 50,000"] = found["read"] / TARGET_PARSER
    found["ratio to python-hl7"] = found["read"] / found["python-hl7"]
    return found


# --------------------------------------------------------------------------------------------------------------------- wire


def drive(port: int, given: list[tuple[bytes, bytes]], connections: int, window: int) -> dict[str, Any]:
    """Send everything over some connections, ``window`` messages of each unanswered at most; rates, waiting times and codes."""
    watch = select.epoll()
    lanes = {}
    for n in range(connections):
        wire = socket.create_connection(("127.0.0.1", port))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lanes[wire.fileno()] = [
            wire,
            given[n::connections],
            0,
            b"",
            [],
        ]  # socket, messages, next, unread, begun at
        watch.register(wire.fileno(), select.EPOLLIN)
    times: list[float] = []
    codes: dict[str, int] = {}
    acknowledged: list[bytes] = []
    began = time.perf_counter()

    def fill(lane: list[Any]) -> None:
        now = time.perf_counter()
        out = []
        while len(lane[4]) < window and lane[2] < len(lane[1]):
            out.append(START + lane[1][lane[2]][1] + END)
            lane[2] += 1
            lane[4].append(now)
        if out:
            lane[0].sendall(b"".join(out))

    for lane in lanes.values():
        fill(lane)
    left = len(given)
    while left:
        for number, _ in watch.poll(30):
            lane = lanes[number]
            data = lane[0].recv(1 << 16)
            if not data:
                raise SystemExit("the listener hung up")
            *whole, lane[3] = (lane[3] + data).split(END)
            now = time.perf_counter()
            for answer in whole:
                at = answer.index(b"MSA|") + 4
                code = answer[at : at + 2].decode()
                codes[code] = codes.get(code, 0) + 1
                if code == "AA":
                    acknowledged.append(answer[at + 3 :].split(b"\r", 1)[0].split(b"|", 1)[0])
                times.append(now - lane[4].pop(0))
            left -= len(whole)
            fill(lane)
    seconds = time.perf_counter() - began
    times.sort()
    return {
        "seconds": seconds, "rate": len(given) / seconds, "p50 ms": times[len(times) // 2] * 1000,
        "p99 ms": times[len(times) * 99 // 100] * 1000, "codes": codes, "acknowledged": acknowledged,
    }  # fmt: skip


def _driven(pipe: Any, *arguments: Any) -> None:
    pipe.send(drive(*arguments))


def driven(*arguments: Any) -> dict[str, Any]:
    """:func:`drive` in a process of its own."""
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_driven, args=(theirs, *arguments))
    child.start()
    found: dict[str, Any] = mine.recv()
    child.join()
    return found


def setup() -> None:
    """An institution and a sender, unless they are there."""
    from lianxin.access import tokens
    from lianxin.access.models import Client
    from lianxin.exchange.v2.models import Peer
    from lianxin.network.models import Institution
    from lianxin.standards import clock

    institution, _ = Institution.objects.get_or_create(
        code="BENCH", defaults={"name": "Bench", "kind": "township", "tier": "township"}
    )
    if not Peer.objects.filter(name="BENCH").exists():
        tokens.issue("bench-v2", "system/*.cruds", "BENCH")
        Peer.objects.create(
            name="BENCH", application="BENCH", facility="BENCH", client=Client.objects.get(name="bench-v2"),
            default_system="urn:oid:2.999.77", created_at=clock.now(),
        )  # fmt: skip
    assert institution.pk


def listener(port: int, processes: int) -> subprocess.Popen[str]:
    """``lianxin listen``, once it listens."""
    command = [
        sys.executable, "-m", "lianxin.config.cli", "listen", "hl7v2", "--port", str(port), "--processes", str(processes),
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    if "MLLP" not in (said := child.stdout.readline()):
        raise SystemExit(f"the listener did not start: {said}")
    return child


def verify(acknowledged: list[bytes]) -> dict[str, int]:
    """Whether every acknowledged message is kept exactly once, with resources that are all there."""
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("CREATE TEMP TABLE told (control_id text)")
        with cur.copy("COPY told FROM STDIN") as out:
            for one in acknowledged:
                out.write_row([one.decode()])
        cur.execute(
            "SELECT count(*), count(*) FILTER (WHERE n = 0), count(*) FILTER (WHERE n > 1) FROM (SELECT t.control_id,"
            " (SELECT count(*) FROM exchange_arrival a WHERE a.control_id = t.control_id AND a.state = 'taken') AS n FROM told t) x"
        )
        told, lost, twice = cur.fetchone()
        cur.execute(
            "WITH r AS (SELECT unnest(a.resources) AS ref FROM exchange_arrival a JOIN told t USING (control_id)),"
            " s AS (SELECT split_part(ref, '/', 1) AS rtype, split_part(ref, '/', 2) AS id, split_part(ref, '/', 3)::int AS version FROM r)"
            " SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (SELECT 1 FROM record_resource x WHERE x.rtype = s.rtype AND x.id = s.id"
            " AND x.version >= s.version)) FROM s"
        )
        resources, missing = cur.fetchone()
        cur.execute("DROP TABLE told")
    return {
        "acknowledged": told,
        "lost": lost,
        "twice": twice,
        "resources": resources,
        "resources missing": missing,
    }


def copied(given: list[tuple[bytes, bytes]], batch: int) -> float:
    """The peer: the same bytes by COPY into a bare table, one commit a batch, two connections; messages a second."""
    import threading

    import psycopg
    from django.db import connection

    from lianxin.access.connections import _options

    with connection.cursor() as cur:
        cur.execute("DROP TABLE IF EXISTS bench_raw")
        cur.execute("CREATE TABLE bench_raw (id bigserial PRIMARY KEY, control_id text, body bytea)")

    def lane(mine: list[tuple[bytes, bytes]]) -> None:
        with psycopg.connect(**_options()) as own:
            for at in range(0, len(mine), batch):
                with (
                    own.cursor() as cur,
                    cur.copy("COPY bench_raw (control_id, body) FROM STDIN (FORMAT BINARY)") as out,
                ):
                    out.set_types(["text", "bytea"])
                    for control, raw in mine[at : at + batch]:
                        out.write_row([control.decode(), raw])
                own.commit()

    began = time.perf_counter()
    lanes = [threading.Thread(target=lane, args=(given[n::2],)) for n in range(2)]
    for one in lanes:
        one.start()
    for one in lanes:
        one.join()
    rate = len(given) / (time.perf_counter() - began)
    with connection.cursor() as cur:
        cur.execute("DROP TABLE bench_raw")
    return rate


def _cpu(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _family(int(child))
    return found


def _servers() -> dict[int, float]:
    """CPU seconds of the database's processes for this database."""
    from django.db import connection

    with connection.cursor() as cur:
        cur.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        return {row[0]: _cpu(row[0]) for row in cur.fetchall() if Path(f"/proc/{row[0]}").exists()}


def wire(
    messages: int, people: int, connections: int, processes: int, window: int, port: int
) -> dict[str, Any]:
    """The mix, end to end."""
    setup()
    seed = int(time.time()) % 100_000
    child = listener(port, processes)
    try:
        first = [
            (f"S{seed}-{n}".encode(), adt("A28", n, f"S{seed}-{n}", n, "20260228080000"))
            for n in range(people)
        ]
        fed = driven(port, first, connections, 8)
        warm = driven(port, mix(1000, people, seed + 1), connections, window)
        given = mix(messages, people, seed)
        pids = _family(child.pid)
        before, servers = {p: _cpu(p) for p in pids}, _servers()
        found = driven(port, given, connections, window)
        cpu = sum(_cpu(p) - before[p] for p in pids)
        after = _servers()
        cpu_server = sum(spent - servers.get(p, 0.0) for p, spent in after.items())
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    told = found.pop("acknowledged")
    peer = copied(given, 32)
    return {
        "people fed a second": fed["rate"], "fed codes": fed["codes"], "warm": warm["rate"], **found, "target": TARGET_WIRE,
        "ratio to target": found["rate"] / TARGET_WIRE, "listener CPU ms/message": cpu / messages * 1000,
        "server CPU ms/message": cpu_server / messages * 1000, "by CPU, messages/s on 2 cores": 2 * messages / (cpu + cpu_server),
        "peer: COPY of the bytes": peer, "ratio to peer": found["rate"] / peer, **verify(told),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("what", choices=("parser", "wire"))
    asked.add_argument("--messages", type=int, default=20_000)
    asked.add_argument("--people", type=int, default=5_000)
    asked.add_argument("--connections", type=int, default=48)
    asked.add_argument("--processes", type=int, default=2)
    asked.add_argument("--window", type=int, default=1)
    asked.add_argument("--port", type=int, default=25750)
    given = vars(asked.parse_args())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.setdefault("LIANXIN_HOME", tempfile.gettempdir() + "/lianxin-bench")
    import django

    django.setup()
    found = (
        parser() if given.pop("what") == "parser" else wire(**{k: v for k, v in given.items() if k != "what"})
    )
    print(json.dumps(found, ensure_ascii=False, indent=1, default=str))


if __name__ == "__main__":
    main()
