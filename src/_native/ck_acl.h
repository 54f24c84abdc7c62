/* ck_acl.h - POSIX ACLs of an archive's entry, as the bits of a mode that they leave.
 *
 * Layers keep no ACLs.  Where a file has one the group's bits of its mode are the mask, the most that
 * anybody of the ACL gets (acl(5), "Correspondence between ACL entries and file permission bits"):
 * the mode alone would give the group more than its own entry does.
 */
#pragma once

#include <stddef.h>

/* Both return the permission bits (0777) that nobody gets more by than the ACL gives it: the group's
 * bits are of the owning group's entry and of no more than any named user's, the others' of no more
 * than any named entry's.  Of what is no ACL only the owner's. */
unsigned ck_acl_text(const char *text);                /* acl_to_text(3), also as star has it */
unsigned ck_acl_xattr(const char *value, size_t size); /* linux/posix_acl_xattr.h */
