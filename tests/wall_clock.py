"""A wall clock that tests set, for daemons that they start; the monotonic clock stays as it is.

A library that is loaded before the C library (ld.so(8), LD_PRELOAD) adds an offset to the answers
of clock_gettime(2), gettimeofday(2) and time(2). The offset is in a file that is mapped into
memory, so that a change holds at once in every process that has loaded the library.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;  /* seconds */

__attribute__((constructor)) static void begin(void) {
    int file = open(OFFSET, O_RDONLY);
    offset = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *found) {
    int failed = (int) syscall(SYS_clock_gettime, which, found);
    if (!failed && offset && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        found->tv_sec += *offset;
    return failed;
}

int gettimeofday(struct timeval *found, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
"""


class WallClock:
    """A clock for the processes that have `library` as LD_PRELOAD.

    Args:
        folder: for the library, its source and the file with the offset.
    """

    def __init__(self, folder: Path) -> None:
        offset, source = folder / "clock.offset", folder / "clock.c"
        self.library = str(folder / "clock.so")
        offset.write_bytes(struct.pack("l", 0))
        source.write_text(_SOURCE)
        compiler = shutil.which("cc") or "gcc"
        define = f'-DOFFSET="{offset}"'
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", define, "-o", self.library, str(source)],
            check=True,
        )
        with open(offset, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def step(self, seconds: int) -> None:
        """Sets the clock forward, or back by a negative number of seconds."""
        [before] = struct.unpack("l", self._map[:])
        self._map[:] = struct.pack("l", before + seconds)
