from django.apps import AppConfig


class ExchangeConfig(AppConfig):
    name = "lianxin.exchange"
    label = "exchange"

    def ready(self) -> None:
        from lianxin.exchange.fhir import terminology_ops

        terminology_ops.register()
