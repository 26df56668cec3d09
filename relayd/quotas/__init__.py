"""How much clients may use and create. On the ground: pure, given a clock."""
