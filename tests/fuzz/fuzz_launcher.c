/* fuzz_launcher.c - the whole launcher, and the children that it clones, on a kernel that does
 * nothing (launcher/kernel.c): any packets, in any order, with any call failing and any container
 * ending at any time.
 *
 * An input is a script, a byte for each choice; two bytes of length before what a packet holds. */
#include "launcher/kernel.h"
#include "plan.h"

int ck_launcher_main(void);

static const char id[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static const int errors[] = {-ENOENT, -EPERM,  -ENOMEM, -EMFILE, -EAGAIN,     -EBUSY,
                             -EIO,    -ENOSPC, -EPIPE,  -EINTR,  -ECONNRESET, -EEXIST};

/* A descriptor that the launcher waits for, -1 when there is none. */
static int choose(void)
{
    int all[DESCRIPTORS], n = 0;
    uint8_t which = take();

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        if (k.fds[fd].open && k.fds[fd].watched)
            all[n++] = fd;
    return n ? all[which % n] : -1;
}

/* Behind so many bytes of the packet: a plan, in it or in a memfd; its inputs come with it. */
static void add_plan(size_t head, uint32_t *in_memfd)
{
    const uint8_t how = take();
    struct ck_plan_header header = {.n_inputs = 0};
    size_t size = take_bytes(k.packet + head, CK_PLAN_INLINE);

    if (how & 1)
        put_right(k.packet + head, size);
    if (size >= sizeof header)
        memcpy(&header, k.packet + head, sizeof header);
    k.n_fds = how & 2 ? how >> 4 : header.n_inputs;
    k.size = head + size;
    if (how % 8 == 4) {
        memset(k.blob, 0, PACKET);
        memcpy(k.blob, k.packet + head, k.blob_size = size);
        if (how & 8) /* too large for a packet */
            put_right(k.blob, k.blob_size = CK_PLAN_INLINE + 8);
        k.size = head;
        *in_memfd = 1;
        k.n_fds++;
    }
}

static void set_packet(uint16_t kind, uint32_t value)
{
    const struct ck_packet packet = {CK_WIRE_MAGIC, CK_WIRE_VERSION, kind,
                                     (uint32_t)(k.size - sizeof packet), value};

    memcpy(k.packet, &packet, sizeof packet);
}

static void make_start(void)
{
    uint32_t in_memfd = 0;

    add_plan(sizeof(struct ck_packet), &in_memfd);
    k.n_fds++; /* its channel */
    set_packet(CK_START, in_memfd);
}

static void make_request(void)
{
    static const uint16_t kinds[] = {CK_WATCH, CK_EXEC,       CK_EXEC,   CK_SIGNAL,     CK_FREEZE,
                                     CK_THAW,  21 /* none */, CK_ATTACH, CK_CLOSE_INPUT};
    const uint8_t kind = take() % (sizeof kinds / sizeof *kinds), values = take();
    struct ck_request request = {.value = {values & 31, values >> 5, values & 1, 0}};

    k.size = sizeof request;
    if (kinds[kind] == CK_EXEC)
        request.value[0] = 0, add_plan(sizeof request, &request.value[0]);
    else
        k.size += take_bytes(k.packet + sizeof request, 4096);
    memcpy(request.id, id, sizeof request.id);
    memcpy(k.packet, &request, sizeof request);
    set_packet(kinds[kind], 0);
}

static void make_report(void)
{
    const struct ck_report report = {
        .section = take() & 1, .index = take(), .code = take() & 63, .errnum = take() & 15};

    memcpy(k.packet, &report, k.size = sizeof report);
    k.n_fds = take() & 1;
}

static void make_packet(uint8_t kind)
{
    k.n_fds = 0;
    k.size = 0; /* end-of-file */
    if (kind == 0)
        make_start();
    else if (kind == 1)
        make_request();
    else if (kind == 2 || kind == 3)
        make_report();
    else if (kind == 4)
        k.size = take_bytes(k.packet, PACKET);
    else if (kind == 5)
        k.size = sizeof(struct ck_packet), set_packet(take(), (uint32_t)take() << 16 | take());
}

/* The turns of the launcher's loop are those of the script. */
int ck_epoll_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    for (;;) {
        const uint8_t what = take();
        int fd = -1;

        fate();
        if (what % 8 == 0)
            fd = CK_CONTROL_FD;
        else if (what % 8 < 5)
            fd = choose();
        if (fd >= 0) {
            make_packet(what % 8 ? what >> 3 & 7 : what >> 6 == 3 ? 5 : 0);
            k.pending = fd;
            events[0] = (struct epoll_event){.events = EPOLLIN, .data.u64 = k.fds[fd].tag};
            k.fds[fd].killed |= what >> 6 == 1; /* of a process: it has ended */
            return 1;
        }
        if (what % 8 == 5)
            k.fail_in = what >> 3, k.error = errors[take() % (sizeof errors / sizeof *errors)];
        else if (what % 8 == 6)
            k.world = take();
        else {
            k.now += 1ULL << (what >> 3) << 4;
            return 0;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t packet[PACKET], blob[PACKET];

    k = (struct kernel){.script = data,
                        .left = size,
                        .pending = -1,
                        .now = 1000000000,
                        .packet = packet,
                        .blob = blob};
    k.fds[CK_CONTROL_FD].open = true;
    if (!setjmp(k.over)) {
        k.world = take();
        ck_launcher_main();
    }
    for (struct map *map = k.maps; map < k.maps + MAPS; map++)
        if (map->at)
            ck_unmap(map->at, map->size);
    return 0;
}
