"""Addresses of this room: residents' pages below ``/m/``, the desk's below ``/cards``, what verifiers fetch below ``/card/``."""

from django.urls import URLPattern, path

from lianxin.resident.card import pages_signin

app_name = "card"

urlpatterns: list[URLPattern] = [
    path("m/login", pages_signin.login, name="login"),
    path("m/login/code", pages_signin.code, name="login_code"),
    path("m/prove", pages_signin.prove, name="prove"),
    path("m/logout", pages_signin.logout, name="logout"),
]
