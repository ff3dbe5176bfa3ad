"""What a reader hears when something cannot be done."""

from __future__ import annotations

from lianxin.duty.errors import NotAllowed
from lianxin.standards.text import T


def no_reader() -> NotAllowed:
    """They are no reader of this centre."""
    return NotAllowed(
        T(
            "您不是该中心的在岗诊断人员，请联系中心负责人登记。",
            "You are not registered as a reader of this centre; ask whoever runs it.",
        )
    )


def no_approver() -> NotAllowed:
    """They may not decide about others' work at this centre."""
    return NotAllowed(
        T("该操作由中心审核医师办理。", "Only a doctor who approves reports at this centre does this.")
    )


def not_them() -> NotAllowed:
    """Handed to somebody who has had a hand in it already."""
    return NotAllowed(
        T(
            "该医师已参与本例诊断，不能再接手，请转给其他专家。",
            "They have already had a part in this reading; hand it to another expert.",
        )
    )


def completed() -> NotAllowed:
    """The blind second reader has seen the first report: their own stands."""
    return NotAllowed(
        T(
            "您的双读报告已完成并与初读对照，内容不能再改，请评分提交。",
            "Your second reading is complete and compared with the first; it stands. Give its score.",
        )
    )


def at_limit(most: int) -> NotAllowed:
    """They hold as many seats as they may."""
    return NotAllowed(
        T(
            "您手中已有 {n} 份未完成的报告，请先完成或退回。",
            "You already hold {n} unfinished studies; finish or give one back first.",
        ).format(n=str(most))
    )


def claim_lost() -> NotAllowed:
    """The lease ran out and the seat went back (or to somebody else)."""
    return NotAllowed(
        T(
            "您的认领已到期并退回队列，书写的内容已保存；如无人认领可重新认领。",
            "Your claim ran out and the study went back; what you wrote is kept, and you may claim it again if nobody has.",
        )
    )
