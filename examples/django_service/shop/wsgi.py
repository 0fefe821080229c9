"""For servers with threads: ``gunicorn shop.wsgi --workers 2 --threads 8``."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()

from shop.desks import desk  # noqa: E402 - the settings come first

desk()
