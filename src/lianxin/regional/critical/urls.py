"""Addresses of this room: calls to answer, one call, figures, limits."""

from django.urls import URLPattern, path

from lianxin.regional.critical import pages, pages_limits, statistics

app_name = "critical"

urlpatterns: list[URLPattern] = [
    path("critical", pages.listing, name="list"),
    path("critical/statistics", statistics.show, name="statistics"),
    path("critical/limits", pages_limits.listing, name="limits"),
    path("critical/limits/<str:code>", pages_limits.edit, name="limit"),
    path("critical/<str:number>", pages.show, name="show"),
    path("critical/<str:number>/<str:move>", pages.act, name="act"),
]
