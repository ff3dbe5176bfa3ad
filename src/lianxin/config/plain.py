"""What no page has to think of: U+0000 in a query or form is refused by name (PostgreSQL stores none), and the number of a person
who does not exist is a page that does not exist."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.views.defaults import page_not_found

from lianxin.index.registry import UnknownPerson
from lianxin.standards.text import T


class PlainTextMiddleware:
    """400 naming the field that holds U+0000; 404 for an unknown person."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: object, args: object, kwargs: object
    ) -> HttpResponse | None:
        """Look at names and values before the page does."""
        for given in (request.GET, request.POST):
            for name, values in given.lists():
                if "\x00" in name or any("\x00" in value for value in values):
                    words = T(
                        "字段“{name}”含有不可用的字符(U+0000),请删去后重发。",
                        "The field “{name}” holds a character that cannot be used (U+0000); remove it and send again.",
                    )
                    shown = str(words.format(name=name.replace("\x00", "")[:60]))
                    return HttpResponse(shown, status=400, content_type="text/plain; charset=utf-8")
        return None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """An index number nobody has."""
        return page_not_found(request, exception) if isinstance(exception, UnknownPerson) else None
