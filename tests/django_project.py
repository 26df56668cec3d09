"""A real Django site with users and sessions, in a process of its own: `tests.django_project`.

The settings are the JSON in DJANGO_PROJECT. Each line of stdin is a request, answered with a line
of JSON: `login NAME` logs in through Django's own login view and answers with the cookie;
`logout COOKIE`, `password NAME`, `deactivate NAME`, `delete NAME` and `expire COOKIE` do so.
"""

import json
import os
import sys
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.test import Client


def answer(verb: str, word: str) -> Any:
    """Carries one request out."""
    from django.contrib.auth.models import User
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    client = Client()
    if verb == "login":
        response = client.post("/login/", {"username": word, "password": "pw-" + word})
        assert response.status_code == 302, response.status_code
        return client.cookies[settings.SESSION_COOKIE_NAME].value
    if verb == "anonymous":
        session = client.session
        session["seen"] = True
        session.save()
        return client.cookies[settings.SESSION_COOKIE_NAME].value
    if verb == "logout":
        client.cookies[settings.SESSION_COOKIE_NAME] = word
        return client.post("/logout/").status_code
    if verb == "expire":
        past = timezone.now() - timezone.timedelta(seconds=1)
        return Session.objects.filter(session_key=word).update(expire_date=past)
    user = User.objects.get(username=word)
    if verb == "password":
        user.set_password("another")
    elif verb == "deactivate":
        user.is_active = False
    user.save()
    return verb


def main() -> None:
    """Prepares the site, then answers."""
    given = json.loads(os.environ["DJANGO_PROJECT"])
    settings.configure(
        LOGIN_REDIRECT_URL="/",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        USE_TZ=True,
        **given,
    )
    django.setup()
    from django.contrib.auth import views
    from django.urls import path

    settings.ROOT_URLCONF = (
        path("login/", views.LoginView.as_view()),
        path("logout/", views.LogoutView.as_view(next_page="/")),
    )
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    for name in ("ann", "ben", "eve"):
        if not User.objects.filter(username=name).exists():
            User.objects.create_user(name, password="pw-" + name)
    sys.stdout.write('"ready"\n')
    sys.stdout.flush()
    for line in sys.stdin:
        verb, _, word = line.strip().partition(" ")
        sys.stdout.write(json.dumps(answer(verb, word)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
