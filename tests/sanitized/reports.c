/* reports.c - what the sanitizers say of a launcher.  Its standard error is /dev/null and the files
 * of its mount namespace are others: so it goes to a file mapped before its main begins, which its
 * children share. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 1 << 20 };

static struct page {
    uint32_t used;
    char text[PAGE - sizeof(uint32_t)];
} *page;

void __asan_set_error_report_callback(void (*callback)(const char *));
int __sanitizer_install_malloc_and_free_hooks(void (*taken)(const volatile void *, size_t),
                                              void (*freed)(const volatile void *));
void __ubsan_get_current_report_data(const char **kind, const char **message, const char **file,
                                     unsigned *line, unsigned *column, char **address);
const char *__asan_default_options(void);
void __ubsan_on_report(void);

const char *__asan_default_options(void)
{
    return "detect_leaks=0:abort_on_error=1";
}

static void say(const char *text)
{
    const uint32_t length = (uint32_t)strlen(text);
    uint32_t at;

    if (!page)
        return;
    at = __atomic_fetch_add(&page->used, length, __ATOMIC_ACQ_REL);
    if (at < sizeof page->text && length < sizeof page->text - at)
        memcpy(page->text + at, text, length);
}

void __ubsan_on_report(void)
{
    const char *kind, *message, *file;
    char *address, text[1024];
    unsigned line, column;

    __ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
    snprintf(text, sizeof text, "%s:%u:%u: runtime error: %s: %s\n", file, line, column, kind,
             message);
    say(text);
}

/* A launcher allocates nothing: so it leaks nothing. */
static void on_taken(const volatile void *at, size_t size)
{
    say("runtime error: the launcher has called malloc\n");
}

static void on_freed(const volatile void *at)
{
}

__attribute__((constructor)) static void open_page(void)
{
    int fd = open(CK_REPORTS, O_RDWR | O_CLOEXEC);
    void *at = MAP_FAILED;

    if (fd >= 0)
        at = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    page = at == MAP_FAILED ? NULL : at;
    __asan_set_error_report_callback(say);
    __sanitizer_install_malloc_and_free_hooks(on_taken, on_freed);
}
