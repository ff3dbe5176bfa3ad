"""Password policy beyond length: three of four character classes (GB/T 22239-2019, 8.1.4.1 complexity)."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from lianxin.access.models import Account
from lianxin.standards.text import T

_HELP = T(
    "密码须包含大写字母、小写字母、数字、符号中的至少三类。",
    "The password must use at least three of: capitals, small letters, digits, symbols.",
)


def classes(password: str) -> int:
    """How many of the four classes (capital, small, digit, other) occur."""
    return len(
        {"A" if c.isupper() else "a" if c.islower() else "9" if c.isdigit() else "#" for c in password}
    )


class ThreeClassesValidator:
    """Django password validator: at least three character classes."""

    def validate(self, password: str, user: Account | None = None) -> None:
        """Raise ValidationError, naming the cure, for fewer than three classes."""
        if classes(password) < 3:
            raise ValidationError(str(_HELP), code="password_three_classes")

    def get_help_text(self) -> str:
        """The rule in words."""
        return str(_HELP)
