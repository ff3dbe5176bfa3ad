"""Addresses of this room."""

from django.urls import URLPattern, path

from lianxin.resident.quotas import pages, pages_proposals

app_name = "quotas"

urlpatterns: list[URLPattern] = [
    path("pools/usage", pages.usage, name="usage"),
    path("pools/usage/sessions", pages.sessions, name="sessions"),
    path("pools/usage/report.pdf", pages.report_pdf, name="report_pdf"),
    path("pools/usage/report.csv", pages.report_csv, name="report_csv"),
    path("pools/usage/proposals", pages_proposals.index, name="proposals"),
    path("pools/usage/proposals/refresh", pages_proposals.refresh, name="refresh"),
    path("pools/usage/proposals/<int:pk>", pages_proposals.show, name="proposal"),
]
