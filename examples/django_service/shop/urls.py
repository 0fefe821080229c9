"""Every path twice: with synchronous views, and below ``async/`` with asynchronous ones. A project of yours takes one."""

from __future__ import annotations

from types import ModuleType

from django.urls import URLPattern, include, path

from shop import async_views, views


def paths(views: ModuleType) -> list[URLPattern]:
    return [
        path("orders", views.confirm_order),
        path("orders/<path:order_id>/eligibility", views.eligibility),
        path("orders/<path:order_id>/shipments", views.ship),
        path("orders/<path:order_id>/parcels/<path:parcel_id>/delivery", views.deliver),
        path("orders/<path:order_id>/cancellation", views.cancel),
        path("orders/<path:order_id>/returns", views.request_return),
        # An id may hold a slash, so the order itself comes after what is asked of it.
        path("orders/<path:order_id>", views.order),
        path("returns/<path:return_id>", views.return_),
        path("refunds", views.request_refund),
        path("refunds/<path:refund_id>", views.refund),
        path("worklist", views.worklist),
        path("health", views.health),
        path("ready", views.ready),
    ]


urlpatterns = [*paths(views), path("async/", include(paths(async_views)))]
