"""The table of the pages that the tests and `make screenshots` open: a new page is one line.

Every page here is opened in both languages, light and dark, on a phone and a desktop.
"""

PAIR = "123e4567-e89b-42d3-a456-426614174000"
PAGES = {
    "home": "/",
    "developers": "/developers",
    "cameras": "/camera/",
    "camera": "/camera/demo/",
    "camera_send": "/camera/demo/send",
    "pair_headset": f"/pair/{PAIR}/headset",
    "pair_phone": f"/pair/{PAIR}/",
    "topics": "/push/",
    "push": "/push/build/",
    "chat": "/chat/",
    "room": "/chat/lobby/",
    "error": "/nowhere",
}
"""Paths by the name of the page, which its screenshots have, too."""

CONSOLE = {
    "console": "/console/",
    "console_clients": "/console/clients",
    "console_quizzes": "/console/quizzes",
    "console_actions": "/console/actions",
}
"""Those of the operator's console, which need a password."""
