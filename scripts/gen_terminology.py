"""Make the terminology archive of the record from the official definitions (HL7 FHIR R4 core package, CC0).

    python scripts/gen_terminology.py r4-definitions.zip

Writes ``src/lianxin/record/data/terminology_r4.zip``: every CodeSystem, ValueSet and ConceptMap without its narrative, in
blocks of lines (one resource a line; a block is unpacked when something in it is first asked for), and ``index.json``:
``[type, id, url, version, block, line]`` of each.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "src" / "lianxin" / "record" / "data" / "terminology_r4.zip"
BLOCK = 120_000  # characters: large enough to pack well, small enough to read at once
TYPES = ("CodeSystem", "ValueSet", "ConceptMap")


def resources(path: str) -> list[dict[str, Any]]:
    """What the archive holds, steadily ordered."""
    with zipfile.ZipFile(path) as archive:
        found = [json.loads(archive.read(name)) for name in archive.namelist() if name.startswith(TYPES)]
    for one in found:
        one.pop("text", None)
    return sorted(found, key=lambda r: (TYPES.index(r["resourceType"]), r["id"]))


def blocks(found: list[dict[str, Any]]) -> tuple[list[list[Any]], list[str]]:
    """The index and the blocks."""
    index: list[list[Any]] = []
    made: list[list[str]] = [[]]
    size = 0
    for one in found:
        line = json.dumps(one, ensure_ascii=False, separators=(",", ":"))
        if size + len(line) > BLOCK and made[-1]:
            made.append([])
            size = 0
        index.append(
            [
                one["resourceType"],
                one["id"],
                one["url"],
                one.get("version", ""),
                len(made) - 1,
                len(made[-1]),
            ]
        )
        made[-1].append(line)
        size += len(line)
    return index, ["\n".join(lines) for lines in made]


def main() -> None:
    """Read the package named on the command line; write the archive (the same input gives the same bytes)."""
    index, texts = blocks(resources(sys.argv[1]))
    with zipfile.ZipFile(TARGET, "w") as archive:
        for name, text in [
            ("index.json", json.dumps(index, separators=(",", ":"))),
            *((f"{n}.ndjson", text) for n, text in enumerate(texts)),
        ]:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text.encode(), compresslevel=9)


if __name__ == "__main__":
    main()
