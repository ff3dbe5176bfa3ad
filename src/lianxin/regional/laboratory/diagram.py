"""Writes docs/laboratory-machine.md from the transition table: ``python -m lianxin.regional.laboratory.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "laboratory-machine.md"
HEAD = """# The laboratory's transition table 检验单状态机

Generated from the table in `src/lianxin/regional/laboratory/moves.py` by `python -m lianxin.regional.laboratory.diagram`; a test keeps it
true. ⚙ marks what only the system does (results of devices, verification by rule).
"""


def page() -> str:
    """The whole page."""
    from lianxin.regional.laboratory import moves

    lines = ["| move | 操作 | from | to | who | roles |", "|---|---|---|---|---|---|"]
    for move in moves.MACHINE.moves:
        who = "system" if move.system else ", ".join(move.parties) or "any party"
        target = " / ".join(move.targets) or "(stays)"
        lines.append(
            f"| `{move.name}` | {move.label.zh} {move.label.en} | {', '.join(move.sources) or '(new)'} | {target} | {who}"
            f" | {', '.join(move.roles) or '–'} |"
        )
    return "\n".join([HEAD, f"```mermaid\n{moves.MACHINE.diagram()}```\n", "\n".join(lines) + "\n"])


def main() -> int:
    """Write the page."""
    import django

    django.setup()
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
