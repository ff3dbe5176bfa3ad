"""Where rooms above take part in the archive: whose an accession number is, what a modality is to do, that a study is complete."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lianxin.regional.archive.models import Device, Study


class Order(NamedTuple):
    """What an accession number stands for: the person, the institution that acquires, the order's number."""

    person_id: int
    performer_id: int
    number: str


@dataclass(frozen=True)
class WorkItem:
    """An entry of a modality's worklist (DICOM PS3.4 K). ``name`` may be Chinese; ``pinyin`` is its alphabetic form ("Zhang^San").

    ``sex`` is "male", "female" or another word of the index; ``patient_id`` the number that the modality is to send back.
    """

    accession: str
    patient_id: str
    name: str
    pinyin: str = ""
    sex: str = ""
    birth_date: dt.date | None = None
    study_uid: str = ""
    modality: str = ""
    starts_at: dt.datetime | None = None
    station: str = ""
    description: str = ""
    procedure_code: str = ""
    procedure_id: str = ""
    referrer: str = ""
    performer: str = ""
    body_part: str = ""


OrderOf = Callable[[str], "tuple[int, int, str] | None"]
Worklist = Callable[[Device], Sequence[WorkItem]]
Told = Callable[[Study], None]

_order_of: list[OrderOf] = []
_worklist: list[Worklist] = []
_study: list[Told] = []


def order_of(fn: OrderOf) -> None:
    """Ask ``fn(accession)`` for (person id, performer's institution id, order number); None when it knows none."""
    if fn not in _order_of:
        _order_of.append(fn)


def worklist(fn: Worklist) -> None:
    """Ask ``fn(device)`` what is to be done at a device now."""
    if fn not in _worklist:
        _worklist.append(fn)


def on_study(fn: Told) -> None:
    """Call ``fn(study)`` when a stored study is complete: its sender ended, or nothing new came for a while.

    Called inside a transaction, again when more comes later, and at least once for every state of completeness: ``fn`` must bear being
    called twice. When it raises, the study is told again a minute later.
    """
    if fn not in _study:
        _study.append(fn)


def order(accession: str) -> Order | None:
    """The order behind an accession number, from whoever knows it."""
    for fn in _order_of:
        found = fn(accession)
        if found is not None:
            return Order(*found)
    return None


def work(device: Device) -> list[WorkItem]:
    """Everything to be done at a device."""
    return [item for fn in _worklist for item in fn(device)]


def tell(study: Study) -> None:
    """Tell everybody who registered."""
    for fn in _study:
        fn(study)
