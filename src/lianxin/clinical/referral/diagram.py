"""Writes docs/referral-machine.md from the transition tables: ``python -m lianxin.clinical.referral.diagram``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lianxin.duty.machine import Machine

PAGE = Path(__file__).resolve().parents[4] / "docs" / "referral-machine.md"
HEAD = """# The referral's transition table 双向转诊状态机

Generated from the tables in `src/lianxin/clinical/referral/moves.py` and `followup.py` by
`python -m lianxin.clinical.referral.diagram`; a test keeps it true. ⚙ marks what only the system does. Escalation changes no
state and is not drawn. Side facts (information asked, booking, cancellation asked) are kept beside the state.
"""


def _table(machine: Machine) -> str:
    lines = ["| move | 操作 | from | to | parties | roles |", "|---|---|---|---|---|---|"]
    for move in machine.moves:
        sources = ", ".join(move.sources) or "(new)"
        target = move.target or "(stays)"
        who = "system" if move.system else ", ".join(move.parties) or "any party"
        lines.append(
            f"| `{move.name}` | {move.label.zh} {move.label.en} | {sources} | {target} | {who} | {', '.join(move.roles) or 'any'} |"
        )
    return "\n".join(lines)


def _states(machine: Machine) -> str:
    lines = [
        "| state | 状态 | owed by | duty | clock | FHIR Task.status | businessStatus |",
        "|---|---|---|---|---|---|---|",
    ]
    for state in machine.states:
        owes = state.owes
        duty = (owes.party, f"{owes.label.zh} {owes.label.en}", owes.clock) if owes else ("–", "–", "–")
        label = f"{state.label.zh} {state.label.en}"
        lines.append(
            f"| `{state.code}` | {label} | {' | '.join(duty)} | {state.fhir_status or '–'} | {state.business or '–'} |"
        )
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    from lianxin.clinical.referral import followup, moves

    parts = [HEAD]
    for machine, title in ((moves.MACHINE, "Referral 转诊"), (followup.MACHINE, "Follow-up 随访")):
        parts += [
            f"## {title}\n",
            f"```mermaid\n{machine.diagram()}```\n",
            _states(machine) + "\n",
            _table(machine) + "\n",
        ]
    return "\n".join(parts)


def main() -> int:
    """Write the page."""
    import django

    django.setup()
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
