"""Addresses of this room."""

from typing import Any

app_name = "ecg"

urlpatterns: list[Any] = []
