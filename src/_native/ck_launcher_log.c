/* ck_launcher_log.c - what a container writes, and where its input comes from. */
#include "ck_launcher.h"

int ck_log_open(struct ck_start *start, const struct ck_op *op)
{
    return -ENOSYS;
}

void ck_log_event(struct ck_launcher *l, struct ck_container *c, int kind)
{
}

void ck_log_finish(struct ck_launcher *l, struct ck_container *c)
{
}

int ck_log_input(struct ck_launcher *l, struct ck_container *c)
{
    return -ENOTCONN;
}

int ck_log_close_input(struct ck_launcher *l, struct ck_container *c)
{
    return -ENOTCONN;
}
