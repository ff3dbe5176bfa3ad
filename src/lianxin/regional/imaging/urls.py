"""Addresses of this room."""

from typing import Any

app_name = "imaging"

urlpatterns: list[Any] = []
