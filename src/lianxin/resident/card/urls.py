"""Addresses of this room: residents' pages below ``/m/``, the desk's below ``/cards``, what verifiers fetch below ``/card/``."""

from django.urls import URLPattern, path

from lianxin.resident.card import pages_desk, pages_mine, pages_oidc, pages_public, pages_signin

app_name = "card"

urlpatterns: list[URLPattern] = [
    path("m/login", pages_signin.login, name="login"),
    path("m/login/code", pages_signin.code, name="login_code"),
    path("m/login/with/<slug:key>", pages_oidc.start, name="oidc_start"),
    path("m/login/from/<slug:key>", pages_oidc.back, name="oidc_back"),
    path("m/prove", pages_signin.prove, name="prove"),
    path("m/logout", pages_signin.logout, name="logout"),
    path("m/account", pages_mine.account_page, name="account"),
    path("m/bind", pages_mine.bind, name="bind"),
    path("m/family", pages_mine.family_page, name="family"),
    path("m/card", pages_mine.card, name="card"),
    path("m/card/code.svg", pages_mine.code_svg, name="code_svg"),
    path("m/card/lose", pages_mine.card_lose, name="lose"),
    path("m/card/reissue", pages_mine.card_reissue, name="reissue"),
    path("card/keys.json", pages_public.key_set, name="keys"),
    path("card/revoked", pages_public.revoked, name="revoked"),
    path("cards", pages_desk.find, name="find"),
    path("cards/scan", pages_desk.scan, name="scan"),
    path("cards/<str:number>", pages_desk.person, name="desk_person"),
    path("cards/<str:number>/print", pages_desk.print_card, name="print"),
    path("cards/<str:number>/<str:act>", pages_desk.act, name="desk_act"),
]
