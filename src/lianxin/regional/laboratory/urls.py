"""Addresses of this room."""

from typing import Any

app_name = "laboratory"

urlpatterns: list[Any] = []
