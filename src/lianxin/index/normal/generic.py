"""Values that say nothing about who somebody is: the phone on everybody, the doctor's own identity number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Generic:
    """Sets of values to leave out of every comparison, as canonical text. Filled by :mod:`lianxin.index.sources`.

    ``births``: "institution:yyyymmdd", a birth date that one institution gives to everybody.
    """

    phones: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    births: frozenset[str] = frozenset()


NOTHING = Generic()
