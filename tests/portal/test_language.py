"""No template says anything in one language only: words stand in ``{% t "中文" "English" %}`` or come from the data."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lianxin

SOURCE = Path(lianxin.__file__).parent
OFFICIAL = re.compile(r"/(print|forms?_print|pdf)/|_print\.html$|/print_[a-z_]+\.html$|/official/")
"""Official forms stay Chinese: templates for print."""

ALLOWED = {
    "联心",
    "EN",
    "CSV",
    "SM3",
    "中文",
    "English",
    "switch to English",
    "FHIR",
    "kg",
    "cm",
    "mmHg",
    "mmol/L",
    "kPa",
    "UDI",
    "RADPEER",
}
CJK = re.compile(r"[\u3400-\u9fff]")
ENGLISH = re.compile(r"[A-Za-z]{3,}")
SPOKEN = ("aria-label", "title", "placeholder", "alt", "data-confirm", "data-label")


def _templates() -> list[Path]:
    found = sorted(SOURCE.rglob("templates/**/*.html"))
    return [p for p in found if not OFFICIAL.search(p.as_posix())]


def _bare(text: str) -> list[str]:
    """Pieces of text a person would see that are not inside a template tag."""
    text = re.sub(r"\{#.*?#\}|\{% comment.*?endcomment %\}|<!--.*?-->", " ", text, flags=re.S)
    text = re.sub(r"\{% block (layout|body_class) %\}.*?\{% endblock %\}", " ", text, flags=re.S)
    # The language switch names each language in itself, whatever the page's language is.
    text = re.sub(r"\{% if english %\}[^{]*\{% else %\}[^{]*\{% endif %\}", " ", text)
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "\x00", text, flags=re.S)
    spoken = [m.group(2) for a in SPOKEN for m in re.finditer(rf'\b({a})="([^"]*)"', text)]
    shown = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.S)
    shown = re.sub(r"<(code|kbd)\b[^>]*>.*?</\1>", " ", shown, flags=re.S)
    shown = re.sub(r"<[^>]*>", "\x00", shown)
    pieces = [piece.strip() for part in [*spoken, shown] for piece in part.split("\x00")]
    return [p for p in pieces if p and p not in ALLOWED and (CJK.search(p) or ENGLISH.search(p))]


@pytest.mark.parametrize("path", _templates(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_every_word_is_in_both_languages(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert _bare(text) == []


@pytest.mark.parametrize("path", _templates(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_the_pair_is_the_right_way_round(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for zh, en in re.findall(r'\{% t "([^"]*)" "([^"]*)"', text):
        assert not CJK.search(re.sub(r"三级甲等|单雄信", "", en)), f"Chinese in the English of {zh!r}"
        if ENGLISH.search(en) and not re.search(r"\{\w+\}", zh):
            assert CJK.search(zh) or zh in {en, "zh-Hans"}, f"no Chinese for {en!r}"
        assert sorted(re.findall(r"\{(\w+)\}", zh)) == sorted(re.findall(r"\{(\w+)\}", en)), (
            f"places differ in {zh!r}"
        )


@pytest.mark.parametrize("path", _templates(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_nothing_inline_that_the_content_policy_would_block(path: Path) -> None:
    text = re.sub(r"\{#.*?#\}|\{% comment.*?endcomment %\}", "", path.read_text(encoding="utf-8"), flags=re.S)
    assert not re.search(r"<style\b|\sstyle=|\son(click|change|submit|load|input|key\w+)=", text)
    for attributes, body in re.findall(r"<script\b([^>]*)>(.*?)</script>", text, flags=re.S):
        assert "src=" in attributes, f"inline script: {body[:40]!r}"


def test_chinese_is_written_with_chinese_commas() -> None:
    half = re.compile(r"[\u3400-\u9fff”）][,;](?=[\u3400-\u9fff“（])|[\u3400-\u9fff]:(?=[\u3400-\u9fff“{]|$)")
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id in ("T", "Text")
            ):
                zh = next((a.value for a in call.args[:1] if isinstance(a, ast.Constant)), "")
                if half.search(zh):
                    found.append(f"{path.relative_to(SOURCE)}:{call.lineno} {zh}")
    assert found == []
