"""What runs for every frame and every member, compiled (Cython): `reading`, `calls`, `sending`."""
