"""Every path twice: with synchronous views, and below ``async/`` with asynchronous ones. A project of yours takes one."""

from __future__ import annotations

from types import ModuleType

from django.urls import URLPattern, include, path

from shop import async_views, views


def paths(views: ModuleType) -> list[URLPattern]:
    return [
        path("orders", views.confirm_order),
        path("orders/<order_id>", views.order),
        path("orders/<order_id>/eligibility", views.eligibility),
        path("orders/<order_id>/shipments", views.ship),
        path("orders/<order_id>/parcels/<parcel_id>/delivery", views.deliver),
        path("orders/<order_id>/cancellation", views.cancel),
        path("orders/<order_id>/returns", views.request_return),
        path("returns/<return_id>", views.return_),
        path("refunds", views.request_refund),
        path("refunds/<refund_id>", views.refund),
        path("worklist", views.worklist),
        path("health", views.health),
        path("ready", views.ready),
    ]


urlpatterns = [*paths(views), path("async/", include(paths(async_views)))]
