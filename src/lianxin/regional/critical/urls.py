"""Addresses of this room."""

from typing import Any

app_name = "critical"

urlpatterns: list[Any] = []
