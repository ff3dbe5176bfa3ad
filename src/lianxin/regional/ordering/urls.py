"""Addresses of this room."""

from django.urls import URLPattern, path

from lianxin.regional.ordering import pages, pages_order

app_name = "ordering"

urlpatterns: list[URLPattern] = [
    path("orders", pages.listing, name="listing"),
    path("orders/new", pages.new, name="new"),
    path("orders/person/<str:number>", pages.of_person, name="person"),
    path("orders/requests/<str:number>", pages.requisition, name="requisition"),
    path("orders/<str:number>", pages_order.show, name="show"),
    path("orders/<str:number>/print.pdf", pages_order.print_report, name="paper"),
    path("orders/<str:number>/<str:move>", pages_order.act, name="act"),
]
