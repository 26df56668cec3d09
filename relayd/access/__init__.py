"""Who may connect, and what for: tokens, their keys, their rights, and denials."""
