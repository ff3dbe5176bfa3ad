"""Clinical documents in: reading and mapping alone, and whole documents through the door into the record.

    python -m benchmarks.feeds_documents core
    python -m benchmarks.feeds_documents door [--documents 3000] [--people 800] [--processes 2]

The documents are made up here: outpatient records, prescriptions, laboratory and examination reports, discharge records,
hypertension follow-ups, every element of the kind's table filled (a laboratory report has six items).  ``core`` is CPU time of one
core; its peers in the same run are libxml2 alone (bytes to a tree, nothing understood) and a generic XML-to-dictionaries reader.
``door`` needs an empty migrated database of its own (``DATABASE_URL``): each process takes documents in batches of 20, a transaction
a batch, as ``lianxin documents`` does; every taken document is looked for afterwards.  Its peer is COPY of the same bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import feeds_v2 as v2

TARGET = 300
MIX = (("500.2", 35), ("500.4", 20), ("500.7", 20), ("500.6", 5), ("500.49", 8), ("483.12", 8), ("500.53", 4))


def documents(count: int, people: int, seed: int = 1) -> list[bytes]:
    """Made-up documents of the mix."""
    from lianxin.exchange.cda import writing
    from lianxin.exchange.cda.kinds import KINDS
    from lianxin.exchange.cda.model import Code, Header, Id, Org, Party, Patient

    draw = random.Random(seed)
    numbers = [n for n, share in MIX for _ in range(share)]
    hospital = Org([Id("2.16.156.10011.1.5", "BENCH")], "基准医院")
    out = []
    for n in range(count):
        number, who = draw.choice(numbers), draw.randrange(people)
        _, name, born, sex = v2.person(who)
        time_ = f"202603{1 + n % 28:02}{8 + n % 10:02}{n % 60:02}00"
        visit = Id(
            "2.16.156.10011.1.12" if KINDS[number].setting == "IMP" else "2.16.156.10011.1.11", f"V{seed}-{n}"
        )
        patient = Patient([visit, Id("2.999.77", f"M{who:07}")], name=name, birth=born)
        patient.sex = Code("1" if sex == "M" else "2", "2.16.156.10011.2.3.3.4")
        writer = Party(
            "author",
            "AUT",
            time_,
            [Id("2.16.156.10011.1.4", f"D{n % 90}")],
            name=f"某医生{n % 90}",
            org=hospital,
        )
        header = Header(
            Id("2.16.156.10011.1.1", f"B{seed}-{n}"),
            time=time_,
            patient=patient,
            authors=[writer],
            custodian=hospital,
        )
        out.append(writing.render(KINDS[number], header, _sections(number, draw)))
    return out


def _sections(number: str, draw: random.Random) -> list[Any]:
    from lianxin.exchange.cda import elements
    from lianxin.exchange.cda.elements import BY_KIND
    from lianxin.exchange.cda.model import Code, Entry, Section, Value

    found: dict[str, Section] = {}
    for row in BY_KIND[number]:
        code = (
            Code(row.section_code, elements.LOINC, row.section)
            if row.section_code
            else Code(display=row.section)
        )
        section = found.setdefault(
            row.key, Section(row.key, code, elements.TITLES.get(row.section_code, row.section))
        )
        for _ in range(6 if number == "500.7" and row.key == "30954-2" else 1):
            if row.type == "CD":
                value = Value(
                    "CD", code=Code(f"J{draw.randint(10, 99)}.900", row.value_set or "1.2.3", "某编码")
                )
            elif row.type in ("PQ", "REAL", "INT", "MO"):
                value = Value(
                    row.type,
                    str(draw.randint(1, 200)),
                    "元" if row.type == "MO" else "kg" if row.type == "PQ" else "",
                )
            elif row.type == "BL":
                value = Value("BL", draw.choice(("true", "false")))
            elif row.type == "TS":
                value = Value("TS", f"202603{draw.randint(1, 28):02}083000")
            else:
                value = Value("ST", f"{row.name}：" + "病情平稳，未诉不适。" * draw.randint(1, 4))
            section.entries.append(Entry(element=row.code, label=row.name, values=[value]))
    return list(found.values())


# ------------------------------------------------------------------------------------------------------------------- core


def _rate(work: Callable[[bytes], Any], given: list[bytes], seconds: float = 3.0) -> float:
    """Documents a second of CPU time."""
    done, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for one in given:
            work(one)
        done += len(given)
    return done / (time.process_time() - began)


def _generic(data: bytes) -> Any:
    """A document as dictionaries, the way general converters make them: nothing understood."""
    from lxml import etree

    def one(el: Any) -> Any:
        out: dict[str, Any] = {f"@{k}": v for k, v in el.attrib.items()}
        for child in el:
            out.setdefault(child.tag, []).append(one(child))
        if el.text and el.text.strip():
            out["#text"] = el.text.strip()
        return out

    return one(etree.fromstring(data))


def core() -> dict[str, Any]:
    """Reading and mapping on one core, and the peers."""
    from lxml import etree

    from lianxin.exchange.cda import mapping, reading, writing
    from lianxin.exchange.cda.kinds import KINDS

    given = documents(300, 100)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    read = [reading.read(d) for d in given]
    mapped = [mapping.resources(d, "Patient/p") for d in read]

    def whole(data: bytes) -> None:
        mapping.resources(reading.read(data), "Patient/p")

    pairs = {
        id(d): (KINDS[r.kind.number], m.resources, r)
        for d, r, m in zip(given, read, mapped, strict=True)
        if r.kind
    }
    found: dict[str, Any] = {
        "documents": len(given), "bytes": round(sum(map(len, given)) / len(given)),
        "entries a document": round(sum(len(list(d.entries())) for d in read) / len(read), 1),
        "resources a document": round(sum(len(m.resources) for m in mapped) / len(mapped), 1),
        "read": _rate(reading.read, given), "read and mapped": _rate(whole, given),
        "written from FHIR": _rate(lambda d: writing.write(*pairs[id(d)]), given),
        "peer: libxml2 alone": _rate(etree.fromstring, given), "peer: XML to dictionaries": _rate(_generic, given),
    }  # fmt: skip
    found["read, ratio to dictionaries"] = found["read"] / found["peer: XML to dictionaries"]
    found["read and mapped, ratio to 300 on one core"] = found["read and mapped"] / TARGET
    return found


# ------------------------------------------------------------------------------------------------------------------- door


def _taken(pipe: Any, given: list[bytes], scope: Any) -> None:
    from django.db import connection

    from lianxin.exchange.cda import door
    from lianxin.exchange.cda.door_files import Named

    connection.close()
    gc.freeze()  # as every long-lived process of the house does
    gc.set_threshold(50_000, 20, 50)
    states: dict[str, int] = {}
    began = time.process_time()
    for one in door.each(scope, (Named(f"{n}.xml", d) for n, d in enumerate(given)), "bench"):
        states[one.verdict.state] = states.get(one.verdict.state, 0) + 1
    with connection.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        server = v2._cpu(cur.fetchone()[0])
    pipe.send((states, time.process_time() - began, server))


def _through(given: list[bytes], scope: Any, processes: int) -> tuple[dict[str, int], float, float, float]:
    """Documents through the door, a share for each process; states, seconds, CPU of processes and of their backends."""
    from django.db import connections

    connections.close_all()
    began = time.perf_counter()
    lanes = []
    for n in range(processes):
        mine, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(
            target=_taken, args=(theirs, given[n::processes], scope)
        )
        child.start()
        lanes.append((child, mine))
    states: dict[str, int] = {}
    cpu = server = 0.0
    for child, mine in lanes:
        told, spent, backend = mine.recv()
        child.join()
        cpu, server = cpu + spent, server + backend
        for state, count in told.items():
            states[state] = states.get(state, 0) + count
    return states, time.perf_counter() - began, cpu, server


def door(count: int, people: int, processes: int) -> dict[str, Any]:
    """Documents into the record."""
    from django.db import connection

    from lianxin.access.scope import Scope
    from lianxin.network.models import Institution

    v2.setup()
    institution = Institution.objects.get(code="BENCH")
    scope = Scope(
        client_id=_client(),
        institution_id=institution.pk,
        institution_ids=frozenset({institution.pk}),
        smart=("system/*.cruds",),
    )
    seed = int(time.time()) % 100_000
    warm = documents(max(200, people), people, seed + 1)
    _through(warm, scope, processes)
    given = documents(count, people, seed)
    states, seconds, cpu, server = _through(given, scope, processes)
    with connection.cursor() as cur:
        cur.execute("SELECT count(DISTINCT control_id), count(*) FROM exchange_arrival WHERE control_id LIKE %s AND state = 'taken'",
                    [f"%^B{seed}-%"])  # fmt: skip
        kept, rows = cur.fetchone()
        cur.execute("SELECT count(*) FROM record_resource")
        resources = cur.fetchone()[0]
    peer = v2.copied([(str(n).encode(), d) for n, d in enumerate(given)], 20)
    rate = count / seconds
    return {
        "documents": count, "states": states, "kept": kept, "rows": rows, "resources in the record": resources, "seconds": seconds,
        "rate": rate, "target": TARGET, "ratio to target": rate / TARGET, "CPU ms/document": cpu / count * 1000,
        "server CPU ms/document": server / count * 1000, "by CPU, documents/s on 2 cores": 2 * count / (cpu + server),
        "peer: COPY of the bytes": peer, "ratio to peer": rate / peer,
    }  # fmt: skip


def _client() -> int:
    from lianxin.access.models import Client

    return int(Client.objects.get(name="bench-v2").pk)


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("what", choices=("core", "door"))
    asked.add_argument("--documents", type=int, default=3000)
    asked.add_argument("--people", type=int, default=800)
    asked.add_argument("--processes", type=int, default=2)
    given = asked.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.setdefault("LIANXIN_HOME", tempfile.gettempdir() + "/lianxin-bench")
    import django

    django.setup()
    found = core() if given.what == "core" else door(given.documents, given.people, given.processes)
    print(json.dumps(found, ensure_ascii=False, indent=1, default=str))


if __name__ == "__main__":
    main()
