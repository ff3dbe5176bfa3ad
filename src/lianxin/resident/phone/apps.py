from django.apps import AppConfig


class PhoneConfig(AppConfig):
    name = "lianxin.resident.phone"
    label = "phone"
