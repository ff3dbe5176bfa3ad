"""Addresses of this room."""

from django.urls import URLPattern, path

from lianxin.resident.sms import pages

app_name = "sms"

urlpatterns: list[URLPattern] = [path("manage/sms", pages.texts, name="texts")]
