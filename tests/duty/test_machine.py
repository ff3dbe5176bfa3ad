"""A table that breaks the rules of the house is refused when it is registered."""

import dataclasses

import pytest

from lianxin.duty import machine
from lianxin.duty.machine import MachineError, Move, Owes, State
from lianxin.standards.text import T

from .toy import MACHINE

W = T("一", "one")


def _with(*moves: Move, states: tuple[State, ...] = (), **changes: object) -> machine.Machine:
    return dataclasses.replace(
        MACHINE, moves=MACHINE.moves + moves, states=MACHINE.states + states, **changes
    )


def _without(name: str) -> machine.Machine:
    return dataclasses.replace(MACHINE, moves=tuple(m for m in MACHINE.moves if m.name != name))


OWES = Owes("lost", W, "asker", "gp", "confirm", "confirm")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (_with(MACHINE.moves[1]), "take named twice"),
        (_with(states=(State("island", W, owes=OWES),)), "island: never reached"),
        (_with(states=(State("limbo", W),)), "limbo: nobody owns it (I1)"),
        (_with(Move("x", W, ("asked",), "nowhere")), "x: unknown state nowhere"),
        (_with(Move("x", W, ("asked",), "done", system=True)), "x: the system may not end a case (I2)"),
        (_with(Move("x", W, ("done",), "asked")), "x: leaves terminal done"),
        (_with(Move("x", W, ("asked",), parties=("nobody",))), "x: unknown part nobody"),
        (_with(Move("x", W, ("asked",), opens=(dataclasses.replace(OWES, button="none"),))), "duty lost is never discharged"),
        (_with(Move("x", W, ("asked",), opens=(dataclasses.replace(OWES, clock="sand"),))), "unknown clock sand"),
        (_with(Move("x", W, ("asked",), when={"info": "maybe"})), "unknown fact info=maybe"),
        (_without("confirm"), "button 'confirm' of its duty is no person's move"),
        (_without("ask"), "no move opens a case"),
        (_with(path=("asked", "gone")), "path: unknown state gone"),
        (
            _with(Move("x", W, ("asked",), "pit"), states=(State("pit", W, owes=dataclasses.replace(OWES, button="x")),)),
            "pit: no way out by people's moves",
        ),
    ],
)  # fmt: skip
def test_unsound_tables_are_refused(broken: machine.Machine, says: str) -> None:
    with pytest.raises(MachineError, match=says.replace("(", r"\(").replace(")", r"\)")):
        broken.validate()


def test_the_toy_is_sound_and_draws_itself() -> None:
    MACHINE.validate()
    drawn = MACHINE.diagram()
    assert drawn.startswith("stateDiagram-v2\n")
    assert "    [*] --> asked: 申请" in drawn
    assert "    reported --> reading: 异议" in drawn
    assert "    done --> [*]" in drawn
    assert "提醒 ⚙" in drawn
