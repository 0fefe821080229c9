"""All settings come from the environment. The desk stores its events itself: it needs no model and no migration of Django."""

from __future__ import annotations

import os

RETURNABLE_STORE = os.environ["RETURNABLE_STORE"]  # such as postgresql://returns@db/shop
RETURNABLE_CONNECTIONS = int(os.environ.get("RETURNABLE_CONNECTIONS", "8"))  # of each process, at most
RETURNABLE_PATIENCE = float(os.environ.get("RETURNABLE_PATIENCE", "20"))  # seconds, of asynchronous views

DEBUG = False
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")
ROOT_URLCONF = "shop.urls"
MIDDLEWARE = ["shop.answers.Problems"]
USE_TZ = True
TIME_ZONE = "UTC"  # Django's own default is Chicago; the desk's times carry their offset
DATABASES: dict[str, object] = {}
LOGGING_CONFIG = None  # the server logs; Django logs no bodies and mails no requests
