"""Addresses of this room."""

from typing import Any

app_name = "pathology"

urlpatterns: list[Any] = []
