from django.apps import AppConfig


class PlacesConfig(AppConfig):
    name = "lianxin.clinical.places"
    label = "places"
