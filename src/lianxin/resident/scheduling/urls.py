"""Addresses of this room."""

from lianxin.resident.scheduling.pages import app_name, urlpatterns

__all__ = ["app_name", "urlpatterns"]
