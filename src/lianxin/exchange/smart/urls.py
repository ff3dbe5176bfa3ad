"""Addresses below /auth."""

from django.urls import path

from lianxin.exchange.smart import pages, token_views

app_name = "smart"

urlpatterns = [
    path("token", token_views.token, name="token"),
    path("introspect", token_views.introspect, name="introspect"),
    path("revoke", token_views.revoke, name="revoke"),
    path("jwks", token_views.jwks, name="jwks"),
    path(".well-known/openid-configuration", token_views.openid, name="openid"),
    path("authorize", pages.ask, name="authorize"),
    path("authorize/decide", pages.decide, name="decide"),
    path("launch", pages.launch, name="launch"),
    path("grants", pages.mine, name="grants"),
]
