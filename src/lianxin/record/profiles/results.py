"""Recognised results 检查检验结果互认: the HR mark on observations and reports."""

from lianxin.record.profiles.build import (
    Resource,
    bound,
    by_value,
    element,
    extension,
    profile,
    profile_url,
    rule,
)
from lianxin.standards.text import Text as T

MARK = "recognition-mark"


def mark() -> Resource:
    """The mark: where it is valid, how it is printed, until when."""
    parts = [element("Extension.extension", min=2, slicing=by_value("url"))]
    for name, least, kind, more in (
        ("scope", 1, "code", {"binding": bound("recognition-scope")}),
        ("label", 1, "string", {"maxLength": 20}),
        ("until", 0, "date", {}),
    ):
        at = f"Extension.extension:{name}"
        parts += [
            element(at, min=least, max="1"),
            element(f"{at}.url", min=1, fixedUri=name),
            element(f"{at}.value[x]", min=1, type=[{"code": kind}], **more),
        ]
    return extension(
        MARK,
        T("互认标识", "Recognition mark"),
        "The HR mark of a result that took part in quality assessment and passed: scope (范围), label as printed (如 鄂HR), and until when.",
        ["Observation", "DiagnosticReport"],
        [
            *parts,
            element("Extension", rules=[
                rule("lx-hr-1", "extension.where(url = 'label').value.all(contains('HR'))", "The printed mark holds the letters HR", "互认标识文字须含 HR"),
            ]),
        ],
    )  # fmt: skip


def _recognised(name: str, rtype: str, title: T, when: str) -> Resource:
    return profile(
        name,
        rtype,
        title,
        "A result that other institutions recognise: the mark, who made it and when. The conclusion is not part of what is recognised.",
        [
            element(f"{rtype}.extension", slicing=by_value("url")),
            element(
                f"{rtype}.extension:mark",
                min=1,
                max="1",
                type=[{"code": "Extension", "profile": [profile_url(MARK)]}],
                mustSupport=True,
            ),
            element(f"{rtype}.status", rules=[
                rule("lx-hr-2", "$this in ('final' | 'amended' | 'corrected' | 'appended')", "Only a finished result is recognised", "只有最终结果可以互认"),
            ]),
            element(f"{rtype}.subject", min=1),
            element(f"{rtype}.{when}[x]", min=1),
            element(f"{rtype}.performer", min=1, mustSupport=True),
        ],
    )  # fmt: skip


def resources() -> list[Resource]:
    """The mark and the two profiles that need it."""
    return [
        mark(),
        _recognised(
            "recognised-observation", "Observation", T("互认检验结果", "Recognised observation"), "effective"
        ),
        _recognised(
            "recognised-report", "DiagnosticReport", T("互认检查报告", "Recognised report"), "effective"
        ),
    ]
