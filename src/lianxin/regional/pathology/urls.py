"""Addresses of the pathology centre and of the sender's end."""

from django.urls import URLPattern, path

from lianxin.regional.pathology import pages, pages_send

app_name = "pathology"

urlpatterns: list[URLPattern] = [
    path("pathology", pages.index, name="index"),
    path("pathology/send", pages_send.send, name="send"),
    path("pathology/dispatch", pages_send.dispatch, name="dispatch"),
    path("pathology/parcels/<str:number>", pages_send.parcel, name="parcel"),
    path("pathology/scan", pages.scan, name="scan"),
    path("pathology/receive", pages.receive, name="receive"),
    path("pathology/statistics", pages.statistics, name="statistics"),
    path("pathology/pictures/<int:pk>", pages.picture, name="picture"),
    path("pathology/<str:number>", pages.case, name="case"),
    path("pathology/<str:number>/specimens", pages_send.register, name="register"),
    path("pathology/<str:number>/labels.pdf", pages.labels, name="labels"),
    path("pathology/<str:number>/report.pdf", pages.report, name="report"),
    path("pathology/<str:number>/do/<str:move>", pages.do, name="do"),
]
