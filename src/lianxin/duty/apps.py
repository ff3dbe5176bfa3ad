from django.apps import AppConfig


class DutyConfig(AppConfig):
    name = "lianxin.duty"
    label = "duty"
