/* Preloaded into the guest's kernel: its processes' registers on a CPU whose state is wide.
 *
 * Linux takes a thread's extended state (NT_X86_XSTATE, ptrace(2)) whole or not at all.  The 6.1
 * user-mode-linux keeps 2696 bytes of it, which is all up to AVX-512; with AMX it is 11008 bytes,
 * and no process of the guest would start.  What it does not keep stays as the thread has it. */
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { ROOM = 1 << 16 };

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);

    long (*next)(enum __ptrace_request, ...) = dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
        return next(request, pid, address, data);

    static char state[ROOM];
    const struct iovec *kept = data;
    struct iovec whole = {state, sizeof state};
    if (next(PTRACE_GETREGSET, pid, address, &whole) != 0)
        return -1;
    memcpy(state, kept->iov_base, kept->iov_len < whole.iov_len ? kept->iov_len : whole.iov_len);
    return next(request, pid, address, &whole);
}
