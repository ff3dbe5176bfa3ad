"""How booking can fail: each typed, in both languages, with the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lianxin.standards.text import T, Text

if TYPE_CHECKING:
    from lianxin.pool.models import Place
    from lianxin.pool.search import Offer


class BookingError(Exception):
    """Base: a place was not taken or not changed; nothing was written."""

    text: Text

    def __init__(self, text: Text) -> None:
        super().__init__(text.zh)
        self.text = text


class Full(BookingError):
    """No number left for this channel (or the session has stopped); ``alternatives``: up to three nearest others."""

    def __init__(self, alternatives: list[Offer], *, reserved: bool = False, stopped: bool = False) -> None:
        if stopped:
            text = T("该场次已停诊，请改选其他场次。", "This session has been stopped; choose another.")
        elif reserved:
            text = T(
                "本渠道号源已约满，其余号源为基层预留，请改选其他场次或待预留释放。",
                "The numbers of this channel are taken and the rest are kept for the grassroots; choose another session or wait for release.",
            )
        else:
            text = T("该场次号源已约满，请改选其他场次。", "This session is full; choose another.")
        super().__init__(text)
        self.alternatives = alternatives


class SeatTaken(BookingError):
    """The number asked for is somebody's; others of the session are free. ``alternatives``: as in :class:`Full`."""

    def __init__(self, alternatives: list[Offer]) -> None:
        super().__init__(T("该时段的号已被占用，请另选时段。", "This number is taken; choose another time."))
        self.alternatives = alternatives


class AlreadyBooked(BookingError):
    """The patient has a number of this session; ``place`` is it."""

    def __init__(self, place: Place) -> None:
        super().__init__(
            T(
                "该患者在本场次已有 {no} 号，请勿重复预约。",
                "This patient already has number {no} of this session; no second one is needed.",
            ).format(no=place.seat_no)
        )
        self.place = place


class KeyReused(BookingError):
    """The idempotency key was used for another booking."""

    def __init__(self) -> None:
        super().__init__(
            T(
                "该幂等键已用于另一预约，请使用新的键。",
                "This idempotency key was used for another booking; use a new key.",
            )
        )


class NotPossible(BookingError):
    """The place stands in a state from which this cannot be done (or the hold has run out)."""
