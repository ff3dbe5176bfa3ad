"""Addresses of this room: missed visits and appeals, a visit and an appeal with their moves."""

from django.urls import URLPattern, path

from lianxin.resident.booking import pages

app_name = "booking"

urlpatterns: list[URLPattern] = [
    path("pools/appeals", pages.missed, name="appeals"),
    path("pools/appeals/confirm", pages.confirm_day, name="confirm_day"),
    path("pools/appeals/<str:number>", pages.appeal, name="appeal"),
    path("pools/appeals/<str:number>/<str:move>", pages.appeal_act, name="appeal_act"),
    path("pools/visits/<str:number>", pages.visit, name="visit"),
    path("pools/visits/<str:number>/<str:move>", pages.visit_act, name="visit_act"),
]
