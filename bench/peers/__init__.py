"""Servers that do relayd's job for poses, each in the way usual for its library."""
