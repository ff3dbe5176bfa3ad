"""The service catalogue: what the platform offers, read from what is really registered at its doors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from lianxin.exchange.cda import issue
from lianxin.exchange.cda import kinds as document_kinds
from lianxin.exchange.fhir import capability
from lianxin.exchange.subscriptions import topics
from lianxin.exchange.tables import targets
from lianxin.exchange.v2 import kinds as v2_kinds
from lianxin.exchange.v2 import outbound_mapping
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Item:
    """One thing a door offers; ``sample``: the name of a sample that can be downloaded."""

    code: str
    label: Text
    note: Text | None = None
    sample: str = ""


@dataclass(frozen=True)
class Service:
    """A door: how it is spoken to, where, what one needs, what it offers."""

    code: str
    icon: str
    label: Text
    protocol: str
    address: str
    permission: Text
    guide: str
    items: list[Item] = field(default_factory=list)


_SMART = T(
    "令牌含相应 SMART 授权范围，如 system/Observation.rs",
    "A token with the SMART scopes, such as system/Observation.rs",
)


def services(base: str) -> list[Service]:
    """Every service; ``base`` is the address of this site, such as "https://lianxin.example"."""
    return [
        _fhir(base),
        _v2_in(),
        _v2_out(),
        _documents(base),
        _tables(),
        _topics(base),
        _exports(),
        _settlement(base),
    ]


def _statement() -> dict[str, Any]:
    return dict(json.loads(capability.statement()[0]))


def _fhir(base: str) -> Service:
    rest = _statement()["rest"][0]
    items = [
        Item(
            one["type"],
            T(one["type"], one["type"]),
            T(
                "、".join(
                    [
                        *(i["code"] for i in one.get("interaction", [])),
                        *(f"${o['name']}" for o in one.get("operation", [])),
                    ]
                ),
                ", ".join(
                    [
                        *(i["code"] for i in one.get("interaction", [])),
                        *(f"${o['name']}" for o in one.get("operation", [])),
                    ]
                ),
            ),
        )
        for one in rest["resource"]
    ]
    items += [
        Item(f"${o['name']}", T(f"${o['name']}", f"${o['name']}"), T("系统级操作", "of the whole system"))
        for o in rest.get("operation", [])
    ]
    return Service(
        "fhir",
        "braces",
        T("FHIR R4 接口", "FHIR R4"),
        "HTTPS, JSON",
        f"{base}/fhir",
        _SMART,
        "docs/how-to/fhir.md",
        items,
    )


def _v2_in() -> Service:
    items = [
        Item(kind, T(kind, kind), sample=_V2_SAMPLES.get(kind.split("^")[0], "")) for kind in v2_kinds.taken()
    ]
    return Service(
        "hl7v2", "box-arrow-in-down", T("HL7 v2 报送与查询", "HL7 v2, sent to the platform"), "MLLP (2.3–2.8)", "MLLP :2575",
        T("登记 MSH-3/MSH-4、来源网段或证书；所属系统含 Patient 权限", "MSH-3 and MSH-4 entered, network or certificate; its client's permission on Patient"),
        "docs/how-to/pix.md", items,
    )  # fmt: skip


def _v2_out() -> Service:
    told = {
        **dict.fromkeys(("identity",), "ADT^A24 ADT^A31 ADT^A37 ADT^A40"),
        "patient": "ADT^A04 ADT^A08 ADT^A31",
        "result": "ORU^R01",
    }
    rules = outbound_mapping.rules()
    told["referral"] = " ".join(
        dict.fromkeys(r.kind for rs in rules.values() for r in rs if r.mapping == "referral")
    )
    told["booking"] = " ".join(
        dict.fromkeys(r.kind for rs in rules.values() for r in rs if r.mapping == "booking")
    )
    labels = {
        "identity": T("身份变化", "Changes of identity"), "patient": T("患者资料", "People's data"), "result": T("他院报告", "Reports of others"),
        "referral": T("转诊进展", "Steps of referrals"), "booking": T("预约变化", "Bookings"),
    }  # fmt: skip
    return Service(
        "hl7v2-out", "box-arrow-up-right", T("HL7 v2 通知", "HL7 v2, sent by the platform"), "MLLP (2.3–2.8)",
        T("贵方监听地址", "the address you listen on").zh, T("在“HL7 v2 系统”填接收地址与通知内容", "Enter where you listen and what you want"),
        "docs/how-to/partners.md", [Item(code, labels[code], T(kinds, kinds)) for code, kinds in told.items()],
    )  # fmt: skip


def _documents(base: str) -> Service:
    items = [
        Item(
            number,
            kind.label,
            T("可接收、可出具", "taken and issued") if number in issue.KINDS else T("可接收", "taken"),
        )
        for number, kind in document_kinds.KINDS.items()
    ]
    return Service(
        "documents", "file-earmark-medical", T("共享文档（WS/T 500、WS/T 483、C-CDA）", "Documents (WS/T 500, WS/T 483, C-CDA)"), "HTTPS, XML",
        f"{base}/documents", T("令牌含 system/DocumentReference.c", "A token with system/DocumentReference.c"), "docs/how-to/documents.md", items,
    )  # fmt: skip


def _tables() -> Service:
    items = [
        Item(code, one.name, one.about, sample=f"table:{code}") for code, one in targets.targets().items()
    ]
    return Service(
        "tables", "table", T("表格与数据库视图", "Tables and views of databases"), "CSV, Excel, SQL", "/feeds/tables",
        T("本机构系统管理员或主索引管理员上传；视图只读账号", "Uploaded by the institution's administrators; a read-only account for views"),
        "docs/how-to/tables.md", items,
    )  # fmt: skip


def _topics(base: str) -> Service:
    items = [Item(one.url, one.title, None) for one in topics.topics().values()]
    return Service(
        "subscriptions", "broadcast", T("订阅", "Subscriptions"), "FHIR rest-hook, R5 backport", f"{base}/fhir/Subscription", _SMART,
        "docs/how-to/subscriptions.md", items,
    )  # fmt: skip


def _exports() -> Service:
    items = [
        Item("ndjson", T("FHIR NDJSON", "FHIR NDJSON")), Item("bundle", T("FHIR Bundle", "FHIR Bundle")),
        Item("cda", T("共享文档 CDA", "Documents (CDA)")), Item("csv", T("CSV 表格", "CSV")),
    ]  # fmt: skip
    return Service(
        "exports", "cloud-upload", T("定时导出", "Scheduled exports"), "HTTPS POST/PUT", T("贵方接收地址", "your address").zh,
        T("在接入方页设置；以所属系统的权限导出", "Set on the partner's page; with the permissions of its client"), "docs/how-to/partners.md", items,
    )  # fmt: skip


def _settlement(base: str) -> Service:
    return Service(
        "settlement", "cash-stack", T("医保结算明细", "Insurance settlements"), "HTTPS, CSV", f"{base}/feeds/settlement",
        T("医保局系统的令牌", "A token of the bureau's system"), "docs/how-to/settlement.md", [],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- samples

_V2_SAMPLES = {"ADT": "adt", "ORU": "oru"}
_SAMPLES = {
    "adt": (
        "MSH|^~\\&|您的MSH-3|您的MSH-4|LIANXIN|LX|20260301080000+0800||ADT^A04^ADT_A01|SAMPLE-ADT-1|P|2.5||||||UNICODE UTF-8\r"
        "EVN|A04|20260301080000+0800\r"
        "PID|1||SAMPLE0001^^^^MR||测试患者^^^^^^L||19800101|F|||测试路1号^^^^^^H||13800000000^PRN^PH\rPV1|1|O\r"
    ),
    "oru": (
        "MSH|^~\\&|您的MSH-3|您的MSH-4|LIANXIN|LX|20260301090000+0800||ORU^R01^ORU_R01|SAMPLE-ORU-1|P|2.5||||||UNICODE UTF-8\r"
        "PID|1||SAMPLE0001^^^^MR||测试患者^^^^^^L||19800101|F\rPV1|1|O\rORC|RE|O1|F1\r"
        "OBR|1|O1|F1|58410-2^血常规^LN|||20260301083000+0800|||||||||||||||20260301090000+0800||LAB|F\r"
        "OBX|1|NM|718-7^血红蛋白^LN||130|g/L|115-150|N|||F\r"
    ),
}  # fmt: skip


def sample(name: str) -> tuple[str, bytes] | None:
    """A sample to begin with: file name and bytes; None when there is none of this name."""
    if name in _SAMPLES:
        return f"{name}.hl7", _SAMPLES[name].encode()
    kind, _, code = name.partition(":")
    if kind == "table" and code in targets.targets():
        columns = targets.targets()[code].columns.values()
        return f"{code}.csv", (",".join(c.label.zh for c in columns) + "\r\n").encode("utf-8-sig")
    return None
