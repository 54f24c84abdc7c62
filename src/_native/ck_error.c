#include "ck_error.h"

#include <stdarg.h>
#include <stdio.h>

int ck_fail(struct ck_error *err, int code, int errnum, const char *fmt, ...)
{
    va_list args;

    err->code = code;
    err->errnum = errnum;
    va_start(args, fmt);
    vsnprintf(err->detail, sizeof err->detail, fmt, args);
    va_end(args);
    return -1;
}
