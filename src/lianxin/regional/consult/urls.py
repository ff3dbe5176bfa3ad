"""Addresses of this room."""

from typing import Any

app_name = "consult"

urlpatterns: list[Any] = []
