"""What a neglected system gets wrong, one mistake a message: for the institution of the demonstration that sends bad data on purpose."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from copy import deepcopy
from random import Random

from lianxin.scenarios.feeds_v2 import Message, Segment, stamp

Mistake = Callable[[Message, Random], list[Message]]


def _results(message: Message) -> list[Segment]:
    return message.all("OBX")


def impossible(message: Message, rng: Random) -> list[Message]:
    """Values in another unit than the one that is written beside them (g/dL as g/L, mg/dL as mmol/L)."""
    for one in _results(message):
        if "GLU" in one.fields[3]:
            one.fields[5] = str(rng.randint(95, 260))
        elif "HGB" in one.fields[3]:
            one.fields[5] = f"{rng.uniform(1.0, 1.8):.2f}"
        elif "CREA" in one.fields[3]:
            one.fields[5] = f"{rng.uniform(15000, 40000):.0f}"
    return [message]


def wrong_unit(message: Message, rng: Random) -> list[Message]:
    """A unit that measures something else."""
    for one in _results(message):
        one.fields[6] = rng.choice(("U/L", "", "个", "cm"))
    return [message]


def no_birth_no_sex(message: Message, rng: Random) -> list[Message]:
    """Birth date and sex left empty."""
    person = message.the("PID").fields
    person[7] = person[8] = ""
    return [message]


def no_name(message: Message, rng: Random) -> list[Message]:
    """The name left empty."""
    message.the("PID").fields[5] = ""
    return [message]


def no_code(message: Message, rng: Random) -> list[Message]:
    """Results that do not say of what."""
    for one in _results(message):
        one.fields[3] = ""
    return [message]


def unknown_code(message: Message, rng: Random) -> list[Message]:
    """Codes of its own that nobody knows, without a name."""
    for n, one in enumerate(_results(message)):
        one.fields[3] = f"XM{rng.randint(1000, 9999)}{n}^^L"
    return [message]


def check_digit(message: Message, rng: Random) -> list[Message]:
    """A figure of the identity number mistyped."""
    person = message.the("PID").fields
    number = person[19]
    place = rng.randrange(6, 16)
    person[19] = number[:place] + str((int(number[place]) + 1 + rng.randrange(8)) % 10) + number[place + 1 :]
    return [message]


def wrong_sex(message: Message, rng: Random) -> list[Message]:
    """The other sex than the index knows, and than the number says."""
    person = message.the("PID").fields
    person[8] = "F" if person[8] == "M" else "M"
    return [message]


def future(message: Message, rng: Random) -> list[Message]:
    """A laboratory computer whose date runs ahead."""
    ahead = message.at + dt.timedelta(days=rng.randint(2, 40))
    for one in message.all("OBR"):
        one.fields[7] = one.fields[22] = stamp(ahead)
    for one in _results(message):
        one.fields[14] = stamp(ahead)
    for one in message.all("PV1"):
        one.fields[44] = stamp(ahead)
    return [message]


def no_date(message: Message, rng: Random) -> list[Message]:
    """Times that are none."""
    for one in message.all("OBR"):
        one.fields[7] = rng.choice(("20261345", "昨天", "2026/3/5"))
    for one in message.all("PV1"):
        one.fields[44] = "00000000"
    return [message]


def late(message: Message, rng: Random) -> list[Message]:
    """What lay in its queue for a week."""
    ago = message.at - dt.timedelta(days=rng.randint(6, 12), hours=rng.randrange(10))
    for one in message.all("OBR"):
        one.fields[7] = one.fields[22] = stamp(ago)
    for one in _results(message):
        one.fields[14] = stamp(ago)
    for one in message.all("PV1"):
        one.fields[44] = stamp(ago)
    for one in message.all("EVN"):
        one.fields[2] = stamp(ago)
    message.the("MSH").fields[7] = stamp(ago)
    return [message]


def twice(message: Message, rng: Random) -> list[Message]:
    """The same once more under another number."""
    again = deepcopy(message)
    again.the("MSH").fields[10] += "D"
    for one in (*again.all("ORC"), *again.all("OBR")):
        one.fields[3] += "D"
    again.at += dt.timedelta(minutes=rng.randint(2, 50))
    again.the("MSH").fields[7] = stamp(again.at)
    return [message, again]


def same_number(message: Message, rng: Random) -> list[Message]:
    """Another content under a number that was used."""
    again = deepcopy(message)
    again.at += dt.timedelta(minutes=rng.randint(2, 50))
    for one in _results(again):
        one.fields[5] = f"{rng.uniform(3, 9):.1f}"
    again.the("PID").fields[13] = "13900000000"
    return [message, again]


def no_number(message: Message, rng: Random) -> list[Message]:
    """No control id."""
    message.the("MSH").fields[10] = ""
    return [message]


def no_person(message: Message, rng: Random) -> list[Message]:
    """Broken off behind the head: whose it is cannot be seen."""
    message.segments = [one for one in message.segments if one.name != "PID"]
    return [message]


def strange_kind(message: Message, rng: Random) -> list[Message]:
    """A kind of message of the maker's own."""
    message.the("MSH").fields[9] = "ZHY^Z01"
    return [message]


RESULTS: tuple[tuple[Mistake, int], ...] = (
    (impossible, 12), (wrong_unit, 8), (no_code, 5), (unknown_code, 9), (future, 6), (no_date, 4), (late, 12), (twice, 8), (same_number, 4),
    (no_birth_no_sex, 6), (check_digit, 6), (wrong_sex, 6), (no_name, 2), (no_number, 2), (no_person, 4), (strange_kind, 2),
)  # fmt: skip
VISITS: tuple[tuple[Mistake, int], ...] = (
    (no_birth_no_sex, 10), (check_digit, 10), (wrong_sex, 10), (no_name, 4), (future, 6), (late, 10), (no_date, 4), (same_number, 5),
    (no_person, 4), (no_number, 2), (strange_kind, 3), (twice, 4),
)  # fmt: skip


def spoil(message: Message, rng: Random) -> list[Message]:
    """The message with one mistake (or two messages, when sending it is the mistake)."""
    chances = RESULTS if message.all("OBX") else VISITS
    mistake = rng.choices([m for m, _ in chances], [w for _, w in chances])[0]
    return mistake(message, rng)
