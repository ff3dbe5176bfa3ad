from django.apps import AppConfig


class SterileConfig(AppConfig):
    name = "lianxin.regional.sterile"
    label = "sterile"
