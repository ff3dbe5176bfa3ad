"""Addresses of this room: the technician's worklist, studies, one study, the viewer in our frame and the viewer itself."""

from django.urls import URLPattern, path

from lianxin.regional.imaging import acquire, pages, viewer

app_name = "imaging"

urlpatterns: list[URLPattern] = [
    path("acquire", acquire.worklist, name="worklist"),
    path("acquire/<str:number>", acquire.show, name="acquire"),
    path("acquire/<str:number>/upload", acquire.upload, name="upload"),
    path("acquire/<str:number>/rate", acquire.rate, name="rate"),
    path("acquire/<str:number>/<str:move>", acquire.act, name="act"),
    path("imaging", pages.home, name="home"),
    path("imaging/quality", pages.quality, name="quality"),
    path("imaging/<str:uid>", pages.show, name="study"),
    path("imaging/<str:uid>/view", pages.view, name="view"),
    path("imaging/<str:uid>/thumbs/<str:sop>", pages.thumb, name="thumb"),
    path("viewer/basic", viewer.index, name="viewer"),
    path("viewer/<path:name>", viewer.file, name="viewer_file"),
]
