"""Words for doors, states and severities."""

from __future__ import annotations

from lianxin.exchange.feeds.models import (
    CDA,
    DROPPED,
    HL7V2,
    MENDED,
    OPEN,
    QUARANTINE,
    QUARANTINED,
    REFUSE,
    REFUSED,
    SETTLEMENT,
    TABLE,
    TAKEN,
    TOLD,
    WAIVED,
    WARN,
)
from lianxin.standards.text import T, Text

DOORS: dict[str, Text] = {
    HL7V2: T("HL7 v2 消息", "HL7 v2 messages"), CDA: T("共享文档", "Documents"), TABLE: T("表格", "Tables"),
    SETTLEMENT: T("结算明细", "Settlements"),
}  # fmt: skip
STATES: dict[str, Text] = {
    TAKEN: T("已入库", "In the record"), REFUSED: T("被拒", "Refused"), QUARANTINED: T("待核", "Quarantined"),
    DROPPED: T("已搁置", "Set aside"),
}  # fmt: skip
SEVERITIES: dict[str, Text] = {
    REFUSE: T("拒绝", "Refuse"), QUARANTINE: T("待核", "Quarantine"), WARN: T("提醒", "Warn"), "off": T("停用", "Off"),
}  # fmt: skip
FINDINGS: dict[str, Text] = {
    OPEN: T("未处理", "Open"), TOLD: T("已退回发送方", "Sent back"), MENDED: T("已修正", "Mended"), WAIVED: T("已认可", "Accepted as it is"),
}  # fmt: skip
TONES = {
    TAKEN: "good",
    REFUSED: "bad",
    QUARANTINED: "warn",
    DROPPED: "",
    REFUSE: "bad",
    QUARANTINE: "warn",
    WARN: "accent",
}
ICONS = {
    TAKEN: "check-circle",
    REFUSED: "x-circle-fill",
    QUARANTINED: "pause-circle-fill",
    DROPPED: "archive",
}
