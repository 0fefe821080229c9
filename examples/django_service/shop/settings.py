"""Everything comes from the environment. The desk keeps its facts by itself: no model, no migration of Django's."""

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
TIME_ZONE = "UTC"  # where Django shows times, it is in Chicago otherwise; the desk's have their offset with them
DATABASES: dict[str, object] = {}
LOGGING_CONFIG = None  # the server's log says what is to be said: no bodies, and no mails with requests in them
