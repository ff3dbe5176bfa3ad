from django.apps import AppConfig


class RecognitionConfig(AppConfig):
    name = "lianxin.clinical.recognition"
    label = "recognition"
