"""Addresses of this room: scanning, opening, sets, loads, requests, recalls, figures."""

from django.urls import URLPattern, path

from lianxin.regional.sterile import pages, pages_cases, pages_loads, statistics

app_name = "sterile"

urlpatterns: list[URLPattern] = [
    path("sterile", pages.home, name="home"),
    path("sterile/scan", pages.scanning, name="scan"),
    path("sterile/open", pages.opened, name="open"),
    path("sterile/sets", pages.sets, name="sets"),
    path("sterile/sets/new", pages.new, name="new"),
    path("sterile/sets/<str:code>", pages.one, name="set"),
    path("sterile/sets/<str:code>/instruments", pages.instrument, name="instrument"),
    path("sterile/loads", pages_loads.listing, name="loads"),
    path("sterile/loads/start", pages_loads.start, name="start"),
    path("sterile/loads/<str:number>", pages_loads.one, name="load"),
    path("sterile/recalls", pages_loads.recalls, name="recalls"),
    path("sterile/recalls/<int:pk>", pages_loads.recall_one, name="recall"),
    path("sterile/requests", pages_cases.listing, name="requests"),
    path("sterile/requests/new", pages_cases.ask, name="ask"),
    path("sterile/statistics", statistics.show, name="statistics"),
    path("sterile/cases/<str:number>", pages_cases.show, name="case"),
    path("sterile/cases/<str:number>/<str:move>", pages_cases.act, name="case_act"),
]
