// Owns: a clock that goes on by a microsecond whenever somebody looks at it, and dice that always fall the same: put before libc
// (LD_PRELOAD), they make a program's way the same on every run: its ids, what its hash tables look like, when it takes a new moment.
// Refuses to know: the program. Only for counting instructions: nobody may be given secrets from these dice.
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

static uint64_t looks;
static uint64_t thrown;

int clock_gettime(clockid_t clock, struct timespec *at) {
    looks++;
    at->tv_sec = (clock == CLOCK_REALTIME ? 1767225600 : 1000) + looks / 1000000;
    at->tv_nsec = looks % 1000000 * 1000;
    return 0;
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    (void)flags;
    for (size_t place = 0; place < length; place++) {
        // SplitMix64: well spread, and a stranger to nothing.
        uint64_t mixed = ++thrown * 0x9E3779B97F4A7C15;
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB;
        ((unsigned char *)buffer)[place] = mixed >> 56;
    }
    return length;
}
