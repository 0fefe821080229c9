"""For servers with an event loop: ``uvicorn shop.asgi:application --workers 2 --lifespan off``."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_asgi_application()

from shop.desks import async_desk  # noqa: E402 - the settings come first

async_desk()
