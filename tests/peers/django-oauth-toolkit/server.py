"""A second real authorization server, independent of the first: django-oauth-toolkit on a loopback
port of its own choice, with open registration, devices, rotation with a grace period, and a journal.

Prints one line of JSON when it listens, and exits when its stdin closes, so that it cannot outlive
the test that started it. The person at the browser is signed in as alice and has agreed to
everything beforehand; devices are approved at their page as anybody would.

usage: server.py [--grace SECONDS] [--access-ttl SECONDS]
"""

import argparse
import json
import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

options = argparse.ArgumentParser()
options.add_argument("--grace", type=int, default=0)
options.add_argument("--access-ttl", type=int, default=3600)
options = options.parse_args()

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of a laboratory",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="__main__",
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=["__main__.alice", "__main__.journal"],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }],
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "Read", "write": "Write"},
        "DEVICE_FLOW_INTERVAL": 1,
        "ACCESS_TOKEN_EXPIRE_SECONDS": options.access_ttl,
        "REFRESH_TOKEN_EXPIRE_SECONDS": 86400,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": options.grace,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "DCR_ENABLED": True,
        "DCR_REGISTRATION_PERMISSION_CLASSES": ("oauth2_provider.dcr.AllowAllDCRPermission",),
        "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": ["none", "client_secret_post"],
        "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    },
)
django.setup()

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db.models.signals import pre_save
from django.http import JsonResponse
from django.urls import include, path
from oauth2_provider.models import get_access_token_model, get_application_model
from oauth2_provider.urls import metadata_urlpatterns

call_command("migrate", verbosity=0)
person = get_user_model().objects.create(username="alice")
entries = []


def agreed(sender, instance, **_):
    instance.skip_authorization = True


pre_save.connect(agreed, sender=get_application_model())


def alice(get_response):
    def answer(request):
        request.user = person
        return get_response(request)

    return answer


def journal(get_response):
    def answer(request):
        entry = {"path": request.path, "query": request.GET.dict(), "form": {}, "status": None}
        if request.content_type == "application/x-www-form-urlencoded":
            entry["form"] = request.POST.dict()
        elif request.content_type == "application/json":
            entry["form"] = json.loads(request.body)
        entries.append(entry)
        response = get_response(request)
        entry["status"] = response.status_code
        return response

    return answer


def live(request):
    token = get_access_token_model().objects.filter(token=request.GET["token"]).first()
    return JsonResponse(token is not None and token.is_valid(), safe=False)


urlpatterns = [
    path("lab/journal", lambda request: JsonResponse(entries[:-1], safe=False)),
    path("lab/live", live),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("", include((metadata_urlpatterns, "metadata"))),
]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def until_nobody_listens():
    sys.stdin.read()
    os._exit(0)


with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server:
    origin = f"http://127.0.0.1:{server.server_port}"
    settings.OAUTH2_PROVIDER["OAUTH_DEVICE_VERIFICATION_URI"] = f"{origin}/o/device/"
    threading.Thread(target=until_nobody_listens, daemon=True).start()
    print(json.dumps({"origin": origin, "issuer": f"{origin}/o"}), flush=True)
    server.serve_forever()
