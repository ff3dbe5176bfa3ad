"""Addresses of this room."""

from typing import Any

app_name = "sterile"

urlpatterns: list[Any] = []
