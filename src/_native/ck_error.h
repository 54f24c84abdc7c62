/* ck_error.h - how a C function says what went wrong.
 *
 * The caller owns the struct; it is untouched on success.  Functions return 0 (or a count, or a
 * descriptor) on success and -1 on failure.  There is no global last error and no allocation.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ck_api.h"

/* Fill err and return -1, so that a caller can write `return ck_fail(err, ...)`.
 * code is an enum ck_code, errnum a positive errno or 0; the text is truncated to fit. */
int ck_fail(struct ck_error *err, int code, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
