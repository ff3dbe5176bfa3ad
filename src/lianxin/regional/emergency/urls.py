"""Addresses of this room: the live board, opening, one channel with its moves, the indicators."""

from django.urls import URLPattern, path

from lianxin.regional.emergency import pages

app_name = "emergency"

urlpatterns: list[URLPattern] = [
    path("chest-pain", pages.board, name="board"),
    path("chest-pain/new", pages.new, name="new"),
    path("chest-pain/statistics", pages.statistics, name="statistics"),
    path("chest-pain/<str:number>", pages.show, name="show"),
    path("chest-pain/<str:number>/<str:move>", pages.act, name="act"),
]
