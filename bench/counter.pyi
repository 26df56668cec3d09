class Counter:
    count: int
