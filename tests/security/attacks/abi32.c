/* abi32 - system calls through the door of 32-bit programs (x86-64 only); prints what each returned.
 *
 * getpid, then socketcall(SYS_SOCKET) for AF_VSOCK and AF_ALG: its arguments lie in memory, where no
 * filter can look.
 */
#include <stdio.h>

#ifdef __x86_64__
#include <sys/mman.h>

static int call(int number, unsigned first, unsigned second)
{
    int result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(first), "c"(second)
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

int main(void)
{
    unsigned *words =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    static const unsigned families[] = {40, 38};

    if (words == MAP_FAILED)
        return 1;
    printf("%d\n", call(20, 0, 0)); /* getpid */
    for (int i = 0; i < 2; i++) {
        words[0] = families[i];
        words[1] = 1; /* SOCK_STREAM */
        words[2] = 0;
        printf("%d\n", call(102, 1, (unsigned)(unsigned long)words));
    }
    return 0;
}
#else
int main(void)
{
    return 0;
}
#endif
