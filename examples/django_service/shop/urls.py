"""The routes, twice: with synchronous views, and below ``async/`` with asynchronous ones. A project of yours needs one."""

from __future__ import annotations

from types import ModuleType

from django.urls import URLPattern, include, path

from shop import async_views, views


def paths(views: ModuleType) -> list[URLPattern]:
    """Each path with its command and the fields that a client may set, or with its question."""
    carry_out, ask = views.carry_out, views.ask
    order = ("order_id", "customer", "currency", "lines", "payments", "shipping")
    parcel = ("parcel_id", "carrier", "tracking_number")
    cancellation = ("channel", "order_reference", "order_copy")
    return [
        path("orders", carry_out("confirm_order", *order)),
        path("orders/<path:order_id>/eligibility", ask("eligibility")),
        path("orders/<path:order_id>/shipments", carry_out("record_shipment", *parcel)),
        path("orders/<path:order_id>/parcels/<path:parcel_id>/delivery", carry_out("record_delivery")),
        path("orders/<path:order_id>/cancellation", carry_out("request_cancellation", *cancellation)),
        path("orders/<path:order_id>/returns", carry_out("request_return", "return_id", "lines", "channel")),
        # An id may hold a slash, so this path comes after the longer ones.
        path("orders/<path:order_id>", ask("order")),
        path("returns/<path:return_id>", ask("return")),
        path("refunds", carry_out("request_refund", "refund_id", "order_id", "return_id")),
        path("refunds/<path:refund_id>", ask("refund")),
        path("worklist", ask("worklist")),
        path("health", views.health),
        path("ready", views.ready),
    ]


urlpatterns = [*paths(views), path("async/", include(paths(async_views)))]
