#include "ck_child.h"

static ck_handler *const handlers[CK_OP_END] = {
#define CK_CHILD_OP(name, number, phase, slots, arguments, handler) [number] = handler,
#include "ck_ops.h"
};

int ck_child_tell(int socket, uint16_t section, int index, uint16_t code, int error, int32_t aux)
{
    const struct ck_report report = {section, (uint16_t)index, code, (uint16_t)-error, aux};

    return (int)ck_send(socket, &report, sizeof report, NULL, 0);
}

_Noreturn void ck_child_run(struct ck_child *child)
{
    const struct ck_op *ops = child->plan.ops[CK_CHILD];
    const int last = child->plan.header->n_ops[CK_CHILD] - 1;
    const bool exec = ops[last].code == CK_OP_EXEC;
    int about = last, error = exec ? ck_child_ready(child, &ops[last]) : 0;

    if (error < 0)
        ck_child_tell(child->report, CK_CHILD, last, CK_OP_EXEC, error, 0);
    for (int i = 0; exec && i < last; i++)
        if (ops[i].code == CK_OP_SECCOMP) /* it may refuse all but the exec itself, and an init's */
            about = i;
    for (int i = 0; i <= last && error >= 0; i++) {
        const uint16_t code = ops[i].code;
        child->aux = 0;
        if (i == about && exec)
            error = ck_child_close(child);
        if (i == about && error >= 0 &&
            ck_child_tell(child->report, CK_CHILD, last, ops[last].code, 0, 0) < 0)
            break; /* not unseen: who waits would wait for ever */
        if (error >= 0)
            error = handlers[code](child, &ops[i]);
        if (code != CK_OP_RLIMIT && ops[i].flags & CK_F_OPTIONAL)
            error = 0;
        if (error < 0)
            ck_child_tell(child->report, CK_CHILD, i, code, error, child->aux);
    }
    ck_exit(127);
}
