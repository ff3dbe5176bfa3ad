from django import template

from lianxin.standards.text import Text

register = template.Library()


@register.simple_tag
def t(zh: str, en: str) -> str:
    return str(Text(zh, en))
