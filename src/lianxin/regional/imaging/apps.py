from django.apps import AppConfig


class ImagingConfig(AppConfig):
    name = "lianxin.regional.imaging"
    label = "imaging"
