"""Every user-visible string in both languages, at its source.

``T("转诊", "Referral")`` is lazy: ``str()`` picks Chinese unless the active language is English. Keeping the pair together
makes a missing translation impossible to write (see docs/decisions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import get_language

if (
    TYPE_CHECKING
):  # to the type checker a Text is one of Django's lazy strings, so that labels and messages may be one
    from django.utils.functional import _StrPromise as _Lazy
else:
    _Lazy = object


class Text(_Lazy):
    """A string in Chinese and English; renders in the active language."""

    __slots__ = ("en", "zh")
    en: str
    zh: str

    def __init__(self, zh: str, en: str) -> None:
        self.zh = zh
        self.en = en

    def __str__(self) -> str:
        return self.en if (get_language() or "").startswith("en") else self.zh

    def __repr__(self) -> str:
        return f"T({self.zh!r}, {self.en!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and (self.zh, self.en) == (other.zh, other.en)

    def __hash__(self) -> int:
        return hash((self.zh, self.en))

    def __mod__(self, params: Any) -> Text:  # type: ignore[override]
        """Django fills ``%(name)s`` places of a form's error message so; a text without such places stays as it is."""
        return Text(*(side % params if "%(" in side else side for side in (self.zh, self.en)))

    def format(self, **values: Any) -> Text:
        """Fill ``{name}`` places in both languages; a value that is itself a Text is rendered in each language."""
        return Text(
            self.zh.format(**{k: v.zh if isinstance(v, Text) else v for k, v in values.items()}),
            self.en.format(**{k: v.en if isinstance(v, Text) else v for k, v in values.items()}),
        )

    def to_dict(self) -> dict[str, str]:
        """Return ``{"zh": …, "en": …}`` for storage."""
        return {"zh": self.zh, "en": self.en}


T = Text
