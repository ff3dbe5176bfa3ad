"""Bodies as they are stored: zstd with a trained dictionary, and sealed where they are about persons.

An Observation of 730 bytes takes about 110.  The first byte tells the form: 1 plain, 2 sealed.  The frame names its
dictionary by number, so later dictionaries leave older bodies readable (scripts/train_bodies.py).
"""

import threading
from functools import cache
from pathlib import Path

import zstandard

from lianxin.access import seal
from lianxin.record.keys import PATIENTS

DATA = Path(__file__).parent / "data"
CURRENT = 1
LEVEL = 3
PLAIN, SEALED = b"\x01", b"\x02"
HIDDEN = PATIENTS | {"Binary"}
"""Types whose bodies are sealed: persons, and files that are kept as they came, with names and identity numbers in them."""
LARGEST = 64 * 1024 * 1024  # bytes a body may have when unpacked


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict((DATA / f"bodies-{number}.dict").read_bytes())


class _Tools(threading.local):
    """A compressor and decompressors of one thread (they are not to be shared)."""

    def __init__(self) -> None:
        self.packer = zstandard.ZstdCompressor(
            level=LEVEL, dict_data=_dictionary(CURRENT), write_checksum=False
        )
        self.unpackers = {CURRENT: zstandard.ZstdDecompressor(dict_data=_dictionary(CURRENT))}


_tools = _Tools()


def pack(rtype: str, text: bytes) -> bytes:
    """A body as it is stored."""
    packed = _tools.packer.compress(text)
    return SEALED + seal.seal_bytes(packed) if rtype in HIDDEN else PLAIN + packed


def unpack(stored: bytes) -> bytes:
    """The exact text of a stored body ("" for a deletion); raises SealBroken when a sealed one was altered."""
    if not stored:
        return b""
    packed = stored[1:] if stored[:1] == PLAIN else seal.unseal_bytes(stored[1:])
    number = zstandard.get_frame_parameters(packed).dict_id if CURRENT > 1 else CURRENT
    unpacker = _tools.unpackers.get(number)
    if unpacker is None:
        unpacker = _tools.unpackers[number] = zstandard.ZstdDecompressor(dict_data=_dictionary(number))
    return unpacker.decompress(packed, max_output_size=LARGEST)
