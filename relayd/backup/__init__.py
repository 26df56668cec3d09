"""Backups: quizzes, actions and the chat of any store in one file, and back into any store."""
