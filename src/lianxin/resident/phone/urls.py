"""Addresses of this room."""

from django.urls import URLPattern, path

from lianxin.resident.phone import display, pages_who

app_name = "phone"

urlpatterns: list[URLPattern] = [
    path("m/type", display.type_size, name="type"),
    path("m/who", pages_who.who, name="who"),
]
