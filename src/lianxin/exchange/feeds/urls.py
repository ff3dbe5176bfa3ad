"""The pages of feeds, a room a line."""

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("lianxin.exchange.feeds.pages")),
    path("", include("lianxin.exchange.settlement.pages")),
    path("", include("lianxin.exchange.settlement.door")),
    path("", include("lianxin.exchange.cda.pages")),
    path("", include("lianxin.exchange.v2.mapping.pages")),
    path("", include("lianxin.exchange.tables.pages")),
    path("", include("lianxin.exchange.partners.pages")),
]
