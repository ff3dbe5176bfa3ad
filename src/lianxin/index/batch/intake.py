"""The first stage of a load: files cut into shares, and a share's registrations normalised into Parquet, by helper processes."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from lianxin.index.batch import table, told, workers
from lianxin.index.form import NOTHING, Form, Generic, Registration, form_of, pack

PIECE = 8 << 20
"""Bytes of a file, or thereabouts, per share."""
ROWS = 20_000
"""Registrations per share when they are given one by one."""
BLOCK = 2_000
"""Registrations normalised at a time: few enough that memory just given back is used again."""
SHARE_BITS = 24
SHOWN = 100
"""Bad rows of a share that are told one by one."""


@dataclass(frozen=True, slots=True)
class Share:
    """A piece of the load: of a file from ``start`` to ``end``, or given registrations. Rids begin at ``number << SHARE_BITS``."""

    number: int
    folder: Path
    path: Path | None = None
    start: int = 0
    end: int = 0
    header: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    regs: Sequence[Registration] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """What every share needs: institutions by code, the one that stands for all (or None), column names, generic values."""

    institutions: Mapping[str, int]
    all_of: int | None
    mapping: Mapping[str, str]
    generic: Generic = NOTHING


@dataclass(slots=True)
class Prepared:
    """What became of a share: files of forms and rows, how many, and what could not be taken (place, reason)."""

    forms: Path
    rows: Path
    count: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0


def shares_of_file(path: Path, folder: Path) -> Iterator[Share]:
    """Cut a CSV file at line ends outside quotes; the first line is the header. Raises ValueError when there is none."""
    encoding = _encoding(path)
    with path.open("rb") as file:
        first = file.readline()
        text = first.decode(encoding).lstrip("\ufeff")
        delimiter = max(",;\t", key=text.count)
        header = next(csv.reader([text], delimiter=delimiter), [])
        if not any(header):
            raise ValueError(f"{path.name}: 缺少表头 / has no header")
        start, number = file.tell(), 0
        while True:
            block = file.read(PIECE)
            if not block:
                return
            quotes = block.count(b'"')
            while not block.endswith(b"\n") or quotes % 2:
                line = file.readline()
                if not line:
                    break
                quotes += line.count(b'"')
                block += line
            end = start + len(block)
            yield Share(number, folder, path, start, end, tuple(header), delimiter, encoding)
            start, number = end, number + 1


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        sample = file.read(1 << 20)
    try:
        sample[: sample.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"


def shares_of_registrations(regs: Iterable[Registration], folder: Path) -> Iterator[Share]:
    """Cut given registrations."""
    rest = iter(regs)
    for number in itertools.count():
        part = list(itertools.islice(rest, ROWS))
        if not part:
            return
        yield Share(number, folder, regs=part)


def _read(share: Share, setting: Setting, out: Prepared) -> Iterator[list[Registration]]:
    """The registrations of a share that somebody may register, a block at a time."""
    if share.path is None:
        yield from table.chunks(share.regs, BLOCK)
        return
    from lianxin.index.kit.csvfile import from_rows

    with share.path.open("rb") as file:
        file.seek(share.start)
        text = file.read(share.end - share.start).decode(share.encoding, errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=share.delimiter)
    header, mapping, at = list(share.header), dict(setting.mapping), 0
    for block in table.chunks(rows, BLOCK):
        read = from_rows(header, block, mapping)
        if not {"local_id", "record_id"} & set(read.columns):
            raise ValueError(f"{share.path.name}: 缺少院内号一列 / has no column with the local id")
        regs = []
        for reg, code in zip(read.registrations, read.institutions, strict=True):
            at += 1
            known = setting.all_of or setting.institutions.get(code)
            if known is None:
                _refuse(
                    out,
                    f"{share.number}:{at}",
                    f"没有代码为 {code} 的机构 / no institution has the code {code}",
                )
                continue
            reg.institution_id = known
            regs.append(reg)
        yield regs


def _refuse(out: Prepared, place: str, why: str) -> None:
    out.refused += 1
    if len(out.bad) < SHOWN:
        out.bad.append((place, why))


def prepare(share: Share, setting: Setting) -> Prepared:
    """Normalise a share: its forms with keys for linking, its rows (sealed payload, digest, packed form) for the tables."""
    with workers.uncollected():
        return _prepare(share, setting)


def _prepare(share: Share, setting: Setting) -> Prepared:
    out = Prepared(
        share.folder / f"in-{share.number:05d}.parquet", share.folder / f"row-{share.number:05d}.parquet"
    )
    forms, rows, at = [], [], share.number << SHARE_BITS
    for block in _read(share, setting, out):
        made = _block(at, block, share, setting, out)
        at += len(block)
        if made is not None:
            forms.append(made[0])
            rows.append(made[1])
            out.count += len(made[0])
    if forms:
        table.write(pa.concat_tables(forms), out.forms)
        table.write(pa.concat_tables(rows), out.rows)
    return out


def _block(
    rid: int, block: Sequence[Registration], share: Share, setting: Setting, out: Prepared
) -> tuple[Any, Any] | None:
    """(forms, rows) of a block as Arrow tables; None when nothing of it can be taken."""
    from lianxin.index import payload

    forms: list[tuple[int, int, Form]] = []
    regs: list[Registration] = []
    for at, reg in enumerate(block, rid):
        if not (reg.institution_id and reg.system and reg.local_id):
            why = "缺少机构、来源系统或院内号 / institution, system or local id missing"
        elif not reg.name or not reg.name.strip():
            why = "缺少姓名 / no name"
        else:
            forms.append((at, 0, form_of(reg, setting.generic)))
            regs.append(reg)
            continue
        _refuse(out, f"{share.number}:{at - (share.number << SHARE_BITS) + 1}", why)
    if not regs:
        return None
    made = table.table(forms)
    plain = [payload.plain(reg) for reg in regs]
    columns = {
        "institution": pa.array([reg.institution_id for reg in regs], pa.int64()),
        "system": pa.array([reg.system for reg in regs], pa.string()),
        "local": pa.array([reg.local_id for reg in regs], pa.string()),
        "patient": pa.array([reg.patient_id for reg in regs], pa.string()),
        "told": pa.array([told.write(reg, form) for reg, (_, _, form) in zip(regs, forms, strict=True)]),
        "payload": pa.array([payload.sealed(body) for body in plain]),
        "digest": pa.array([payload.digest(body) for body in plain]),
        "packed": pa.array([pack(form) for _, _, form in forms]),
    }
    return made, pa.table({"rid": made.column("rid"), **columns, "keys": made.column("keys")})
