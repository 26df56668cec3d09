"""The operator's console at `/console/`: pages, and their JSON, behind a password.

A request goes through `web` → `door` (off, session, origin) → `login`, `pages`, `feed` or
`content`. `console` puts these together; the rest of relayd uses it alone. A stranger gets the page
of the login, and nothing else.
"""
