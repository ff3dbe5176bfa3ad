"""Addresses of this room."""

from typing import Any

app_name = "recognition"

urlpatterns: list[Any] = []
