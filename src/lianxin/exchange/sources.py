"""Files for the loader: folders, .zip, .gz, NDJSON and bundles become members, each read only when its turn comes."""

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".json", ".ndjson", ".jsonl")
FIRST = ("hospital", "organization", "practitioner", "location")
LAST = ("group",)
MAX_MEMBER = 512 * 1024 * 1024


@dataclass(frozen=True)
class Member:
    """One file, perhaps inside a zip. ``name`` begins with the archive's name."""

    path: Path
    inner: str = ""
    root: Path | None = None

    @property
    def name(self) -> str:
        """How reports and dead letters call it."""
        if self.inner:
            return f"{self.path.name}/{self.inner}"
        return str(self.path.relative_to(self.root)) if self.root else self.path.name

    def read(self) -> bytes:
        """The bytes, decompressed; raises OSError, zipfile.BadZipFile or EOFError when they are damaged, ValueError when too big."""
        if self.inner:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.inner) as source:
                raw = source.read(MAX_MEMBER + 1)
        else:
            with self.path.open("rb") as source:
                raw = source.read(MAX_MEMBER + 1)
        if self.name.endswith(".gz"):
            import io

            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
                raw = unpacked.read(MAX_MEMBER + 1)
        if len(raw) > MAX_MEMBER:
            raise ValueError(f"larger than {MAX_MEMBER >> 20} MB")
        return raw

    def order(self) -> tuple[int, str]:
        """Hospitals and practitioners come first, groups last: others refer to them."""
        name = (self.inner or self.path.name).rpartition("/")[2].lower()
        if any(word in name for word in FIRST):
            return 0, name
        return (2 if any(word in name for word in LAST) else 1), name


def members(paths: Sequence[Path | str]) -> list[Member]:
    """Every loadable file below ``paths``, in the order to load them; raises FileNotFoundError for a path that is not there."""
    found: list[Member] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise FileNotFoundError(path)
        root = path if path.is_dir() else None
        for one in sorted(p for p in path.rglob("*") if p.is_file()) if root else [path]:
            found += _members(one, root)
    return sorted(found, key=Member.order)


def _members(path: Path, root: Path | None) -> Iterator[Member]:
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = [
                    i.filename
                    for i in archive.infolist()
                    if not i.is_dir() and not i.filename.startswith("__MACOSX")
                ]
        except zipfile.BadZipFile:
            yield Member(path, "", root)  # read later, and refused by name
            return
        for name in names:
            if name.removesuffix(".gz").endswith(SUFFIXES):
                yield Member(path, name)
    elif root is None or path.name.removesuffix(".gz").endswith(SUFFIXES):
        yield Member(path, "", root)
