"""Writes docs/chest-pain-machine.md from the transition table: ``python -m lianxin.regional.emergency.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "chest-pain-machine.md"
HEAD = """# The chest-pain channel's transition table 胸痛绿色通道状态机

Generated from the table in `src/lianxin/regional/emergency/moves.py` by `python -m lianxin.regional.emergency.diagram`; a test keeps it
true. Due times come from the milestones and the targets in `data/policy.yaml`.
"""


def page() -> str:
    """The whole page."""
    from lianxin.regional.emergency import moves

    machine = moves.MACHINE
    lines = ["| move | 操作 | from | to | who | roles |", "|---|---|---|---|---|---|"]
    for move in machine.moves:
        lines.append(
            f"| `{move.name}` | {move.label.zh} {move.label.en} | {', '.join(move.sources) or '(new)'} | {' / '.join(move.targets) or '(stays)'}"
            f" | {', '.join(move.parties) or 'any party'} | {', '.join(move.roles)} |"
        )
    return "\n".join([HEAD, f"```mermaid\n{machine.diagram()}```\n", "\n".join(lines) + "\n"])


def main() -> int:
    """Write the page."""
    import django

    django.setup()
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
