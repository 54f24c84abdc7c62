#include "ck_acl.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define OWNER_ONLY 0700
#define VERSION    2
#define HEADER     4
#define ENTRY      8

enum kind { USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER, KINDS };

/* What all entries of a kind have in common. */
struct acl {
    unsigned allowed[KINDS];
};

static const struct acl all = {{7, 7, 7, 7, 7, 7}};

static unsigned bits_of(const struct acl *acl)
{
    unsigned users = acl->allowed[USER] & acl->allowed[MASK];
    unsigned groups = acl->allowed[GROUP] & acl->allowed[MASK];
    unsigned group = acl->allowed[GROUP_OBJ] & acl->allowed[MASK] & users;
    unsigned other = acl->allowed[OTHER] & users & groups;

    return acl->allowed[USER_OBJ] << 6 | group << 3 | other;
}

/* ---- text */

static bool is_word(const char *at, size_t len, const char *word)
{
    return len == strlen(word) ? !memcmp(at, word, len) : len == 1 && *at == *word;
}

static int permissions(const char *at, size_t len)
{
    int bits = 0;

    for (size_t i = 0; i < len; i++) {
        if (at[i] != 'r' && at[i] != 'w' && at[i] != 'x' && at[i] != '-')
            return -1;
        bits |= at[i] == 'r' ? 4 : at[i] == 'w' ? 2 : at[i] == 'x' ? 1 : 0;
    }
    return len ? bits : -1;
}

/* One "tag:qualifier:permissions", with ":id" after it as star writes. */
static bool take_text(struct acl *acl, const char *at, size_t len)
{
    const char *end = at + len, *tag = at, *name, *rights;
    size_t tag_len, name_len, rights_len;
    enum kind kind;
    int bits;

    if (!(name = memchr(at, ':', len)))
        return false;
    tag_len = (size_t)(name++ - tag);
    rights = memchr(name, ':', (size_t)(end - name));
    name_len = (size_t)((rights ? rights : name) - name);
    rights = rights ? rights + 1 : name; /* "other:r--" */
    for (rights_len = 0; rights + rights_len < end; rights_len++)
        if (strchr(": \t#", rights[rights_len]))
            break;
    if (is_word(tag, tag_len, "user"))
        kind = name_len ? USER : USER_OBJ;
    else if (is_word(tag, tag_len, "group"))
        kind = name_len ? GROUP : GROUP_OBJ;
    else if (is_word(tag, tag_len, "mask"))
        kind = MASK;
    else if (is_word(tag, tag_len, "other"))
        kind = OTHER;
    else
        return false;
    bits = permissions(rights, rights_len);
    if (bits >= 0)
        acl->allowed[kind] &= (unsigned)bits;
    return bits >= 0;
}

unsigned ck_acl_text(const char *text)
{
    struct acl acl = all;
    bool any = false;

    for (size_t len; *(text += strspn(text, ", \t\n")); text += len, any = true) {
        len = strcspn(text, ",\n");
        if (!take_text(&acl, text, len))
            return OWNER_ONLY;
    }
    return any ? bits_of(&acl) : OWNER_ONLY;
}

/* ---- the attribute */

unsigned ck_acl_xattr(const char *value, size_t size)
{
    /* ACL_USER_OBJ 1, ACL_USER 2, ACL_GROUP_OBJ 4, ACL_GROUP 8, ACL_MASK 16, ACL_OTHER 32 */
    const uint8_t *at = (const uint8_t *)value, *end = at + size;
    static const uint8_t version[HEADER] = {VERSION};
    struct acl acl = all;

    if (size <= HEADER || size % ENTRY != HEADER || memcmp(at, version, HEADER) != 0)
        return OWNER_ONLY;
    for (at += HEADER; at < end; at += ENTRY) {
        unsigned kind = 0;

        while (kind < KINDS && at[0] != 1u << kind)
            kind++;
        if (kind == KINDS || at[1] || at[2] > 7 || at[3])
            return OWNER_ONLY;
        acl.allowed[kind] &= at[2];
    }
    return bits_of(&acl);
}
