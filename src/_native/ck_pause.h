/* ck_pause.h - how long a container pauses before it is started again: Docker's rule. */
#pragma once

#include <stdint.h>

enum {
    CK_PAUSE_FIRST = 100,
    CK_PAUSE_MOST = 60000,
    CK_SETTLED_AFTER = 10000, /* ms, as Docker has them */
};

/* The pause before the next start, in ns: twice the last one (0: there was none), up to the most; the
 * first again after a run of ran ns that settled. */
static inline uint64_t ck_next_pause(uint64_t last, uint64_t ran)
{
    const uint64_t ms = 1000000;

    if (!last || ran >= CK_SETTLED_AFTER * ms)
        return CK_PAUSE_FIRST * ms;
    return last * 2 < CK_PAUSE_MOST * ms ? last * 2 : CK_PAUSE_MOST * ms;
}
