"""The plain HTTP side: pages, health, the publishing API, static files.

The way of a request: `request` (limits, sending) → `site` (which handler) → `pages`, `health` or
`api` → an `answers.Answer` → back to `request`. What they need of the rest is `backend.Backend`.
"""
