"""A mypy plugin: tells the type checker of what Django and its stubs cannot know of us.

Our middleware puts ``scope`` and ``id`` on every request. A ``Text`` is to the checker one of Django's lazy strings (see
``lianxin.standards.text``), of which Django's own plugin knows only the methods of ``str``: here it learns ``zh`` and ``en``.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import AttributeContext, ClassDefContext, Plugin
from mypy.plugins.common import add_attribute_to_class
from mypy.types import AnyType, Type, TypeOfAny

REQUEST = "django.http.request.HttpRequest"
ATTRIBUTES = ("scope", "id")
LANGUAGES = ("lianxin.standards.text.Text.zh", "lianxin.standards.text.Text.en")


def _add(context: ClassDefContext) -> None:
    for name in ATTRIBUTES:
        if name not in context.cls.info.names:
            add_attribute_to_class(context.api, context.cls, name, AnyType(TypeOfAny.explicit))


def _text(context: AttributeContext) -> Type:
    return context.api.named_generic_type("builtins.str", [])


class HousePlugin(Plugin):
    """Adds :data:`ATTRIBUTES` to Django's request and knows the languages of a Text."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Hook for the two languages; asked before Django's plugin, so this one comes first in pyproject.toml."""
        return _text if fullname in LANGUAGES else None

    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """Hook for the one class we add to."""
        return _add if fullname == REQUEST else None


def plugin(version: str) -> type[Plugin]:
    """Entry point that mypy calls."""
    return HousePlugin
