/* rows.c - every system call of the core's tables, made by nobody: each succeeds, or is the one that
 * is to fail.  What has more to say is in kernel.c, which wins over these. */
int fate(void);

#define CK_CALL(type, name, parameters, call)                                                      \
    type name parameters;                                                                          \
    __attribute__((weak)) type name parameters                                                     \
    {                                                                                              \
        return (type)fate();                                                                       \
    }
#define CK_RETRY CK_CALL

#include "ck_sys_ns.h"
