"""The plain HTTP side: pages, health, the publishing API, static files.

A request goes through `request` (limits, sending) → `site` (the table of handlers) → `pages`,
`health`, `metrics` or `api` → an `answers.Answer` → back to `request`. `backend.Backend` is their
interface to the rest of relayd.
"""
