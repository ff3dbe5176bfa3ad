"""Addresses of this room."""

from typing import Any

app_name = "ordering"

urlpatterns: list[Any] = []
