"""The figures of ``data/policy.yaml``, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.standards.text import T, Text


@cache
def _data() -> dict[str, Any]:
    text = (Path(__file__).parent / "data" / "policy.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def number(name: str) -> int:
    """A figure by name; KeyError when there is none."""
    return int(_data()[name])


def stop_reasons() -> list[Text]:
    """Common reasons for stopping a clinic."""
    return [T(zh, en) for zh, en in _data()["stop_reasons"]]
