"""Train the dictionary that record bodies are compressed with.

    python scripts/train_bodies.py N bundles.zip|resources.ndjson ...

Writes ``src/lianxin/record/data/bodies-N.dict``.  A dictionary in use is never trained again: stored bodies need it for ever.
A better one gets the next number and ``record.bodies.CURRENT``.  Number 1 was trained on synthetic records only: the Synthea
bundles of smart-on-fhir/bulk-data-server (Apache-2.0) and the demo consortium's own resources.
"""

import json
import random
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import zstandard

DATA = Path(__file__).resolve().parents[1] / "src" / "lianxin" / "record" / "data"
SIZE = 65_536
SAMPLES = 12_000


def resources(path: Path) -> Iterator[bytes]:
    """Compact texts of the resources in a zip of bundles or an NDJSON file, as the store writes them."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                for entry in orjson.loads(archive.read(name)).get("entry", []):
                    yield _stored(entry["resource"])
    else:
        for line in path.read_bytes().splitlines():
            yield _stored(orjson.loads(line))


def _stored(resource: dict[str, object]) -> bytes:
    meta = {
        "versionId": "1",
        "lastUpdated": "2026-11-23T08:00:00.000+08:00",
        **dict(resource.pop("meta", {})),
    }  # type: ignore[call-overload]
    head = {"resourceType": resource.pop("resourceType"), "id": resource.pop("id", ""), "meta": meta}
    return orjson.dumps({**head, **resource})


def main() -> None:
    """Train and write; prints the compression reached on samples left out of the training."""
    number, paths = int(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
    samples = [text for path in paths for text in resources(path)]
    random.Random(number).shuffle(samples)
    made = zstandard.train_dictionary(SIZE, samples[:SAMPLES], dict_id=number)
    (DATA / f"bodies-{number}.dict").write_bytes(made.as_bytes())
    packer = zstandard.ZstdCompressor(dict_data=made)
    rest = samples[SAMPLES : SAMPLES + 3000]
    print(
        json.dumps(
            {
                "samples": len(samples),
                "plain": sum(map(len, rest)),
                "packed": sum(len(packer.compress(t)) for t in rest),
            }
        )
    )


if __name__ == "__main__":
    main()
