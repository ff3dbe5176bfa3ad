"""Stored bulk files: the same bytes come back, alterations are noticed, and a file of any size takes little memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

from lianxin.exchange.bulk import files, sources


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.LIANXIN_BULK_DIR = tmp_path


def _write(lines: list[bytes]) -> files.Written:
    writer = files.Writer("job", "one")
    for line in lines:
        writer.write(line)
    return writer.close()


def test_lines_come_back_plain_and_as_one_gzip_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAME", 1000)
    lines = [b'{"n":%d,"t":"%s"}' % (n, b"x" * (n % 90)) for n in range(700)] + ["单晓明".encode(), b""]
    done = _write(lines)
    wanted = b"\n".join(lines) + b"\n"
    assert (done.count, done.size, done.crc) == (702, len(wanted), zlib.crc32(wanted))
    with files.open_file(files.path_of("job", "one")) as file:
        assert b"".join(files.lines(file)) == wanted
    with files.open_file(files.path_of("job", "one")) as file:
        packed = b"".join(files.gzipped(file, done.crc, done.size))
    assert gzip.decompress(packed) == wanted
    one = zlib.decompressobj(31)
    assert one.decompress(packed) == wanted
    assert one.eof
    assert one.unused_data == b"", "some clients read only the first member"


def test_reading_goes_on_from_any_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAME", 100)
    lines = [b"line %d" % n for n in range(100)]
    _write(lines)
    with files.open_file(files.path_of("job", "one")) as file:
        whole = list(files.frames(file))
        third = list(files.frames(file, whole[1].next, 2))
    assert b"".join(f.plain for f in whole[2:]) == b"".join(f.plain for f in third)
    assert sum(f.count for f in whole) == 100


@pytest.mark.parametrize("at", [0, 9, 30, 60, -1])
def test_an_altered_file_is_not_read(at: int) -> None:
    _write([b"secret"] * 10)
    path = files.path_of("job", "one")
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    with files.open_file(path) as file, pytest.raises(files.Damaged):
        list(files.frames(file))


def test_a_frame_does_not_fit_another_place_or_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRAME", 10)
    _write([b"first line", b"second line"])
    path = files.path_of("job", "one")
    with files.open_file(path) as file:
        first, second = files.frames(file)
    raw = path.read_bytes()
    start = 24
    path.write_bytes(raw[:start] + raw[first.next : second.next] + raw[start : first.next])
    with files.open_file(path) as file, pytest.raises(files.Damaged):
        list(files.frames(file))
    path.write_bytes(raw[: first.next - 3])
    with files.open_file(path) as file, pytest.raises(files.Damaged):
        list(files.frames(file))


def test_a_discarded_file_leaves_nothing() -> None:
    writer = files.Writer("job", "one")
    writer.write(b"x")
    writer.discard()
    assert list(files.folder("job").iterdir()) == []


def test_sweeping_spares_what_is_noted() -> None:
    for name in ("0-A-output-0.lease1", "0-A-output-1.lease2", "1-B-output-0.lease1"):
        files.Writer("job", name).close()
    files.Writer("job", "0-A-output-2.lease3")
    files.sweep("job", "0-A-output-", {"0-A-output-0.lease1"})
    assert sorted(p.name for p in files.folder("job").iterdir()) == [
        "0-A-output-0.lease1",
        "1-B-output-0.lease1",
    ]


def test_memory_does_not_grow_with_the_file(settings: Any) -> None:
    settings.LIANXIN_BULK_UPLOAD_BYTES = 1 << 30
    line = b'{"resourceType":"Observation","note":"' + b"abcdefgh" * 200 + b'"}\n'
    tracemalloc.start()
    done = sources.keep("job", "one", (line * 150 for _ in range(250)))  # 61 MB in pieces of 250 KB
    with files.open_file(files.path_of("job", "one")) as file:
        size = sum(len(piece) for piece in files.lines(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == done.size == len(line) * 150 * 250
    assert peak < 12 << 20, peak
