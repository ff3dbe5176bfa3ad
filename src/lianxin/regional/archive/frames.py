"""Frames of an instance: as they are stored, and drawn as a picture for people."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing, pixel_array

from lianxin.regional.archive import store, walk
from lianxin.regional.archive.models import Instance
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Damaged, Element, Walk

MOST_PIXELS = 120_000_000
"""Samples of one frame that are drawn at most."""
THUMBNAIL = 200
MEDIA = {
    "1.2.840.10008.1.2.4.50": "image/jpeg", "1.2.840.10008.1.2.4.51": "image/jpeg", "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg", "1.2.840.10008.1.2.4.80": "image/jls", "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2", "1.2.840.10008.1.2.4.91": "image/jp2", "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx", "1.2.840.10008.1.2.5": "image/dicom-rle", "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg", "1.2.840.10008.1.2.4.102": "video/mp4", "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.110": "image/jxl", "1.2.840.10008.1.2.4.111": "image/jxl", "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc", "1.2.840.10008.1.2.4.202": "image/jphc", "1.2.840.10008.1.2.4.203": "image/jphc",
}  # fmt: skip
"""Media type of frames of a transfer syntax (PS3.18 table 8.7.3-2); uncompressed ones are octets."""
UNCOMPRESSED = frozenset(
    [walk.IMPLICIT, walk.EXPLICIT, walk.DEFLATED, walk.BIG_ENDIAN, "1.2.840.10008.1.2.1.98"]
)


class NoFrame(ValueError):
    """There is no such frame, or none that can be given or drawn."""


class _Pixels(NamedTuple):
    element: Element
    rows: int
    columns: int
    samples: int
    bits: int
    frames: int
    offsets: list[int]
    lengths: list[int]


def media(transfer_syntax: str) -> str:
    """The media type of a stored frame."""
    return MEDIA.get(transfer_syntax, "application/octet-stream")


def _pixels(walker: Walk, data: Any) -> _Pixels:
    values: dict[int, int] = {}
    order = "<" if walker.syntax.little else ">"
    offsets: list[int] = []
    lengths: list[int] = []
    frames = 1
    for element in walker.elements():
        size = element.stop - element.value
        if element.tag in (0x00280002, 0x00280010, 0x00280011, 0x00280100) and size >= 2:
            values[element.tag] = struct.unpack_from(order + "H", data, element.value)[0]
        elif element.tag == 0x00280008:
            text = (
                bytes(data[element.value : element.stop])
                .decode("ascii", "replace")
                .split("\\")[0]
                .strip("\0 ")
            )
            frames = int(text) if text.isdigit() and len(text) < 10 else 1
        elif element.tag in (0x7FE00001, 0x7FE00002):
            found = list(
                struct.unpack(
                    f"{order}{size // 8}Q", bytes(data[element.value : element.value + size // 8 * 8])
                )
            )
            offsets, lengths = (found, lengths) if element.tag == 0x7FE00001 else (offsets, found)
        elif element.tag in (walk.PIXELS, 0x7FE00008, 0x7FE00009):
            return _Pixels(
                element, values.get(0x00280010, 0), values.get(0x00280011, 0), values.get(0x00280002, 1),
                values.get(0x00280100, 8), max(1, frames), offsets, lengths,
            )  # fmt: skip
    raise NoFrame("no pixel data")


def raw(instance: Instance, number: int) -> bytes:
    """A frame (from 1) as it is stored. Raises NoFrame, Damaged, Full."""
    return raws(instance, [number])[0]


def raws(instance: Instance, numbers: list[int]) -> list[bytes]:
    """Frames (from 1) as they are stored. Raises NoFrame, Damaged, Full."""
    with store.opened(instance.path) as data, memoryview(data) as view, view[instance.offset :] as part:
        deflated = instance.transfer_syntax == walk.DEFLATED
        inner: Any = walk.inflated(part) if deflated else part
        walker = Walk(inner, walk.syntax_of(instance.transfer_syntax, inner))
        found = _pixels(walker, inner)
        if any(not 1 <= n <= found.frames for n in numbers):
            raise NoFrame("no such frame")
        if not found.element.undefined:
            return [_native(found, inner, n) for n in numbers]
        groups = _groups(walker, found, inner)
        try:
            return [b"".join(bytes(inner[a:b]) for a, b in groups[n - 1]) for n in numbers]
        except IndexError:
            raise NoFrame("the frames cannot be told apart") from None


def _native(found: _Pixels, data: Any, number: int) -> bytes:
    bits = found.rows * found.columns * found.samples * found.bits
    if bits == 0:
        raise NoFrame("no size")
    if bits % 8:
        if found.frames == 1:
            return bytes(data[found.element.value : found.element.stop])
        raise NoFrame("frames that do not begin at a byte")
    size = bits // 8
    at = found.element.value + (number - 1) * size
    if at + size > found.element.stop:
        if found.frames == 1 and number == 1:  # YBR 4:2:2 is stored in fewer bytes than its samples
            return bytes(data[found.element.value : found.element.stop])
        whole = found.element.stop - found.element.value
        if whole % found.frames:
            raise NoFrame("the pixel data are too short")
        size = whole // found.frames
        at = found.element.value + (number - 1) * size
    return bytes(data[at : at + size])


def _groups(walker: Walk, found: _Pixels, data: Any) -> list[list[tuple[int, int]]]:
    """The fragments of each frame (PS3.5 A.4): by the offset tables, one each, or by the ends of the images."""
    items = [(value, stop) for value, stop, _ in walker.items(found.element.value, found.element.stop)]
    if not items:
        raise NoFrame("no fragments")
    table, fragments = items[0], items[1:]
    if found.frames == 1:
        return [fragments]
    if len(fragments) == found.frames:
        return [[one] for one in fragments]
    begin = fragments[0][0] - 8 if fragments else 0
    offsets = found.offsets or list(
        struct.unpack(
            f"<{(table[1] - table[0]) // 4}L",
            bytes(data[table[0] : table[0] + (table[1] - table[0]) // 4 * 4]),
        )
    )
    if len(offsets) == found.frames:
        starts = sorted({begin + one for one in offsets})
        groups: list[list[tuple[int, int]]] = [[] for _ in starts]
        at = -1
        for value, stop in fragments:
            while at + 1 < len(starts) and value - 8 >= starts[at + 1]:
                at += 1
            groups[max(at, 0)].append((value, stop))
        return groups
    made: list[list[tuple[int, int]]] = [[]]
    for value, stop in fragments:
        made[-1].append((value, stop))
        if b"\xff\xd9" in bytes(data[max(value, stop - 10) : stop]):
            made.append([])
    return [one for one in made if one]


def decoded(instance: Instance, number: int) -> bytes:
    """A frame (from 1) decompressed: the bytes of its samples, little endian, colours by pixel. Raises NoFrame, Full."""
    array, _ = _array(instance, number, as_stored=True)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _array(instance: Instance, number: int, *, as_stored: bool = False) -> tuple[Any, Dataset]:
    """A frame's samples and the header without its pixels."""
    if not 1 <= number <= instance.frames:
        raise NoFrame("no such frame")
    if not instance.rows or not instance.columns or instance.rows * instance.columns * 3 > MOST_PIXELS * 3:
        raise NoFrame("no picture, or one that is too large to be drawn")
    try:
        with store.opened(instance.path) as data:
            path = store.local(instance.path)
            source: Any = str(path) if path is not None else io.BytesIO(bytes(data))
            head = dcmread(source, stop_before_pixels=True, force=True)
            if not isinstance(source, str):
                source.seek(0)
            return pixel_array(source, index=number - 1, raw=as_stored), head
    except (Full, Damaged):
        raise
    except Exception as error:  # decoders raise whatever they like on broken images
        raise NoFrame(f"cannot be decoded: {error}") from error


def rendered(
    instance: Instance,
    number: int = 1,
    *,
    kind: str = "JPEG",
    size: tuple[int, int] | None = None,
    window: tuple[float, float] | None = None,
    quality: int = 90,
) -> bytes:
    """A frame (from 1) as a picture (JPEG, PNG or GIF), fitted into ``size``, in the window (centre, width) of the header or the one given.

    Raises NoFrame, Full.
    """
    image = drawn(instance, number, window)
    if size is not None and (image.width > size[0] or image.height > size[1]):
        image.thumbnail(size)
    out = io.BytesIO()
    image.save(out, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return out.getvalue()


def drawn(instance: Instance, number: int, window: tuple[float, float] | None) -> Image.Image:
    """A frame as an 8-bit image. Raises NoFrame, Full."""
    array, head = _array(instance, number)
    try:
        kind = str(head.get("PhotometricInterpretation", "MONOCHROME2"))
        if kind == "PALETTE COLOR":
            array = apply_color_lut(array, head)
            array = array >> 8 if array.dtype.itemsize > 1 else array
            return Image.fromarray(array.astype(np.uint8))
        if array.ndim == 3:
            return Image.fromarray(_eight(array))
        values = apply_modality_lut(array, head)
        if window is not None:
            values = _windowed(values, *window)
        elif "VOILUTSequence" in head or "WindowWidth" in head:
            values = (
                apply_voi_lut(values, head, index=0)
                if "VOILUTSequence" in head
                else apply_windowing(values, head, 0)
            )
        return Image.fromarray(_eight(values, inverted=kind == "MONOCHROME1", given=window is not None))
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, IndexError) as error:
        raise NoFrame(f"cannot be drawn: {error}") from error


def _windowed(values: Any, centre: float, width: float) -> Any:
    """PS3.3 C.11.2.1.2: the linear function to 0…255."""
    width = max(width, 1.0)
    low = centre - 0.5 - (width - 1) / 2
    return np.clip((values.astype(np.float32) - low) / max(width - 1, 1e-6) * 255, 0, 255)


def _eight(values: Any, inverted: bool = False, given: bool = False) -> Any:
    """Samples as 8 bits: as they are when they fit, else stretched from the least to the greatest."""
    if values.dtype != np.uint8:
        values = values.astype(np.float32)
        low, high = (0.0, 255.0) if given else (float(values.min()), float(values.max()))
        values = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
        values = values.astype(np.uint8)
    return 255 - values if inverted else values


def thumbnail(instance: Instance, edge: int = THUMBNAIL) -> bytes:
    """A small JPEG of the middle frame, kept in the archive's cache. Raises NoFrame, Full."""
    name = bytes(instance.hash).hex()
    kept = store.root() / "cache" / name[:2] / f"{name}-{edge}.jpg"
    try:
        return kept.read_bytes()
    except OSError:
        pass
    made = rendered(instance, (instance.frames + 1) // 2, size=(edge, edge), quality=80)
    _keep(kept, made)
    return made


def _keep(path: Path, data: bytes) -> None:
    """Into the cache; a cache that cannot be written is none."""
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half.write_bytes(data)
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
