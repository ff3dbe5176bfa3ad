"""What somebody of the laboratory hears when something cannot be done."""

from __future__ import annotations

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.standards.text import T, Text


def refused(text: Text, field: str = "__all__") -> Refused:
    """A form that was not taken."""
    return Refused({field: text})


def no_tube(number: str) -> NotAllowed:
    """A bar code nobody knows here."""
    return NotAllowed(T("没有条码为 {n} 的标本。", "There is no tube {n}.").format(n=number[:20]))


def no_box(number: str) -> NotAllowed:
    """A box nobody knows here."""
    return NotAllowed(T("没有编号为 {n} 的转运箱。", "There is no box {n}.").format(n=number[:20]))


def by_person() -> NotAllowed:
    """A person vouches for a result."""
    return NotAllowed(T("须由检验人员本人办理。", "A person of the laboratory does this."))


def changed() -> Refused:
    """The results are not what was on the screen."""
    return refused(
        T("结果已变化，请重新查看后再审核。", "The results have changed; look again, then verify.")
    )
