#include "ck_child.h"

static ck_handler *const handlers[CK_OP_END] = {
#define CK_CHILD_OP(name, number, phase, slots, arguments, handler) [number] = handler,
#include "ck_ops.h"
};

_Noreturn void ck_child_run(struct ck_child *child)
{
    const struct ck_op *ops = child->plan.ops[CK_CHILD];
    int n = child->plan.header->n_ops[CK_CHILD];

    for (int i = 0; i < n; i++) {
        struct ck_report report = {.section = CK_CHILD, .index = (uint16_t)i, .code = ops[i].code};
        int error = 0;

        child->aux = 0;
        if (ops[i].code == CK_OP_EXEC ||
            ops[i].code == CK_OP_PARK) /* "about to": a failure sends a second report */
            error = (int)ck_send(child->report, &report, sizeof report, NULL, 0);
        if (error >= 0)
            error = handlers[ops[i].code](child, &ops[i]);
        if (error < 0 && (ops[i].code == CK_OP_RLIMIT || !(ops[i].flags & CK_F_OPTIONAL))) {
            report.errnum = (uint16_t)-error;
            report.aux = child->aux;
            ck_send(child->report, &report, sizeof report, NULL, 0);
            break;
        }
    }
    ck_exit(127);
}
