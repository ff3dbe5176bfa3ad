"""Addresses of this room."""

from typing import Any

app_name = "emergency"

urlpatterns: list[Any] = []
