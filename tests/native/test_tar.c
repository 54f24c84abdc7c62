/* The tar reader: numbers, names, extended headers; and bytes that are no tar at all.
 *
 * With arguments it reads those files instead, as archives: what a fuzzer found can be replayed.
 */
#include "ck_tar.h"

#include <stdint.h>

#include "archive.h"
#include "check.h"
#include "ck_acl.h"

/* Read the archive in pieces of `piece` bytes up to its n-th entry; 1, 0 at the end, -1. */
static int read_entry(struct ck_tar *tar, size_t piece, unsigned n, struct ck_error *err)
{
    const uint8_t *at = archive, *end = archive + used;
    int got = 0;

    *tar = (struct ck_tar){.err = err, .meta_max = 1 << 16};
    while (at < end) {
        size_t given = (size_t)(end - at) < piece ? (size_t)(end - at) : piece, left = given;

        got = ck_tar_next(tar, &at, &left);
        if (got < 0 || (got == 1 && n-- == 0))
            return got;
        if (got == 1) {
            uint64_t skip = ((uint64_t)tar->entry.size + 511) / 512 * 512;
            at += skip < (uint64_t)(end - at) ? (size_t)skip : (size_t)(end - at);
        } else if (tar->ended) {
            return 0;
        }
    }
    return ck_tar_finish(tar) < 0 ? -1 : 0;
}

static void expect_bad(const char *why)
{
    for (size_t piece = 1; piece <= 4096; piece *= 8) {
        struct ck_error err = {0};
        struct ck_tar tar;

        CHECK_INT(read_entry(&tar, piece, 99, &err), -1);
        CHECK_INT(err.code, CK_E_ARCHIVE);
        CHECK(strstr(err.detail, why));
        ck_tar_free(&tar);
    }
    used = 0;
}

static void plain_entry(void)
{
    struct ck_error err = {0};

    put_header("some/file", '0', 5);
    put("hello", 5);
    put_header("next", '5', 0);
    for (size_t piece = 1; piece < 2000; piece += 7) {
        struct ck_tar tar;

        CHECK_INT(read_entry(&tar, piece, 0, &err), 1);
        CHECK_TEXT(tar.entry.path, "some/file");
        CHECK_INT(tar.entry.type, '0');
        CHECK_INT(tar.entry.mode, 0644);
        CHECK_INT(tar.entry.uid, 1000);
        CHECK_INT(tar.entry.gid, 100);
        CHECK_INT(tar.entry.size, 5);
        CHECK_INT(tar.entry.mtime, 1600000000);
        ck_tar_free(&tar);
        CHECK_INT(read_entry(&tar, piece, 1, &err), 1);
        CHECK_TEXT(tar.entry.path, "next");
        ck_tar_free(&tar);
    }
    CHECK_INT(err.code, 0);
    used = 0;
}

static void binary_numbers(void)
{
    static const struct {
        uint8_t field[12];
        int64_t mtime;
    } cases[] = {
        {{0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2}, 258},
        {{0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255}, INT64_MAX},
        {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, -1},
        {{255, 255, 255, 255, 0x80, 0, 0, 0, 0, 0, 0, 0}, INT64_MIN},
    };
    struct ck_error err = {0};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ck_tar tar;
        uint8_t *block = put_header("f", '0', 0);

        memcpy(block + 136, cases[i].field, 12);
        sign(block);
        CHECK_INT(read_entry(&tar, 512, 0, &err), 1);
        CHECK_INT(tar.entry.mtime, cases[i].mtime);
        ck_tar_free(&tar);
        used = 0;
    }
}

static void numbers_that_do_not_fit(void)
{
    static const uint8_t fields[][12] = {
        {0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0},                     /* 2^63 */
        {0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0},                        /* 2^64 */
        {0xff, 255, 255, 255, 0x7f, 255, 255, 255, 255, 255, 255, 255}, /* -2^63 - 1 */
        {'1', '2', '8'},
        {'1', ' ', '1'},
        {'-', '1'},
    };

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        uint8_t *block = put_header("f", '0', 0);

        memcpy(block + 136, fields[i], 12);
        sign(block);
        expect_bad("is not a number");
    }
}

static void pax_overrides(void)
{
    static const char records[] = "17 path=new/name\n"
                                  "12 uid=5000\n"
                                  "12 gid=6000\n"
                                  "9 size=3\n"
                                  "21 mtime=-1.25000000\n"
                                  "30 SCHILY.xattr.user.a=a\0=\nbc\n"
                                  "19 comment=ignored\n";
    struct ck_error err = {0};
    struct ck_tar tar;
    char *key = NULL, *value = NULL;
    size_t cursor = 0, size = 0;

    put_pax(records, sizeof records - 1);
    put_header("old", '0', 1);
    put("abc", 3);
    CHECK_INT(read_entry(&tar, 100, 0, &err), 1);
    CHECK_TEXT(tar.entry.path, "new/name");
    CHECK_INT(tar.entry.uid, 5000);
    CHECK_INT(tar.entry.gid, 6000);
    CHECK_INT(tar.entry.size, 3);
    CHECK_INT(tar.entry.mtime, -2);
    CHECK_INT(tar.entry.mtime_nsec, 750000000);
    CHECK(tar.entry.has_xattrs);
    for (int i = 0; i < 6; i++)
        CHECK_INT(ck_tar_record(&tar, &cursor, &key, &value, &size), 1);
    CHECK_TEXT(key, "SCHILY.xattr.user.a");
    CHECK_INT(size, 6);
    CHECK(memcmp(value, "a\0=\nbc", 6) == 0);
    CHECK_INT(ck_tar_record(&tar, &cursor, &key, &value, &size), 1);
    CHECK_INT(ck_tar_record(&tar, &cursor, &key, &value, &size), 0);
    ck_tar_free(&tar);
    used = 0;
}

static void an_extended_header_is_for_one_entry(void)
{
    struct ck_error err = {0};
    struct ck_tar tar;

    put_pax("12 uid=5000\n", 12);
    put_header("first", '0', 0);
    put_header("second", '0', 0);
    CHECK_INT(read_entry(&tar, 4096, 0, &err), 1);
    CHECK_INT(tar.entry.uid, 5000);
    ck_tar_free(&tar);
    CHECK_INT(read_entry(&tar, 4096, 1, &err), 1);
    CHECK_INT(tar.entry.uid, 1000);
    ck_tar_free(&tar);
    used = 0;
}

static void bad_records(void)
{
    static const char *const bad[] = {
        "x path=a\n", "99 path=a\n", "8 path=a\n",  "3 =\n",
        "9path=ab\n", "9 path=abc",  "6 path",      "999999999999999999999999 a=b\n",
        "0 a=b\n",    " 9 path=a\n", "-9 path=a\n",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_pax(bad[i], strlen(bad[i]));
        put_header("f", '0', 0);
        if (strcmp(bad[i], "3 =\n") == 0)
            used -= 512; /* the header that is missing is the fault then */
        expect_bad("");
    }
}

static void an_error_holds_its_text_cut_to_size(void)
{
    struct ck_error err = {.code = 0};
    const struct ck_tar tar = {.err = &err, .count = 7};
    char long_text[1000];

    CHECK_INT(ck_tar_fail(&tar, CK_E_OS, -EIO, "no"), -1);
    CHECK_INT(err.code, CK_E_OS);
    CHECK_INT(err.errnum, EIO);
    CHECK_TEXT(err.detail, "entry 7 (): no");
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    ck_tar_fail(&tar, CK_E_OS, 0, long_text);
    CHECK_INT(strlen(err.detail), sizeof err.detail - 1);
}

/* Their maps are not read here. */
static void sparse_files(void)
{
    static const char records[] = "21 GNU.sparse.name=t\n24 GNU.sparse.size=1000\n";

    static const struct {
        char type;
        bool records, sparse;
        const char *path;
    } cases[] = {{'0', true, true, "t"}, {'5', true, false, "t"}, {'S', false, true, "f"}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ck_error err = {0};
        struct ck_tar tar;

        if (cases[i].records)
            put_pax(records, sizeof records - 1);
        put_header("f", cases[i].type, cases[i].type == '5' ? 0 : 10);
        CHECK_INT(read_entry(&tar, 100, 0, &err), 1);
        CHECK_INT(tar.entry.sparse, cases[i].sparse);
        CHECK_TEXT(tar.entry.path, cases[i].path);
        ck_tar_free(&tar);
        used = 0;
    }
}

/* Read bytes as an archive to their end; whatever they are, it ends, and the sanitizers are silent. */
static void survive(const uint8_t *data, size_t len, size_t piece)
{
    struct ck_error err = {0};
    struct ck_tar tar = {.err = &err, .meta_max = 1 << 16};
    const uint8_t *at = data;
    int got = 0;

    while (got >= 0 && at + 511 < data + len && !tar.ended) {
        size_t left = (size_t)(data + len - at) < piece ? (size_t)(data + len - at) : piece;

        got = ck_tar_next(&tar, &at, &left);
        if (got == 1) {
            char *key, *value;
            size_t cursor = 0, size = 0, kept = 0;

            while (tar.entry.has_xattrs && ck_tar_record(&tar, &cursor, &key, &value, &size) > 0)
                for (size_t i = 0; i < size; i++)
                    kept += (uint8_t)value[i];
            CHECK(strlen(tar.entry.path) < CK_TAR_PATH && strlen(tar.entry.link) < CK_TAR_PATH);
            CHECK(tar.entry.size >= 0 && kept < SIZE_MAX);
            if (tar.entry.size < data + len - at - 511)
                at += (tar.entry.size + 511) / 512 * 512;
        }
    }
    CHECK(got >= 0 || err.code == CK_E_ARCHIVE);
    ck_tar_free(&tar);
}

static void damaged_archives(void)
{
    static uint8_t copy[sizeof archive];
    uint32_t random = 2463534242u;

    put_one_of_each();
    for (int round = 0; round < 20000; round++) {
        unsigned changes = 1 + next_random(&random) % 4;

        memcpy(copy, archive, used);
        while (changes--) {
            size_t at = next_random(&random) % used, block = at / 512 * 512;

            copy[at] = (uint8_t)next_random(&random);
            if (next_random(&random) % 4)
                sign(copy + block);
        }
        survive(copy, used, 1 + next_random(&random) % 2000);
    }
    used = 0;
}

static void replay(const char *name)
{
    static uint8_t data[1 << 24];
    FILE *file = fopen(name, "rb");
    size_t len;

    CHECK(file);
    len = fread(data, 1, sizeof data, file);
    fclose(file);
    survive(data, len, 1 << 20);
    survive(data, len, 1);
}

/* What readers disagree on is refused: some take the bytes as data, some as headers. */
static void data_of_what_is_no_file(void)
{
    static const char types[] = {'2', '3', '4', '5', '6'};
    struct ck_error err = {0};
    struct ck_tar tar;

    for (size_t i = 0; i < sizeof types; i++) {
        put_header("d", types[i], 512);
        put_header("hidden", '0', 0);
        expect_bad("only a file has data");
    }
    put_header("d/", '0', 512);
    put_header("hidden", '0', 0);
    expect_bad("only a file has data");
    put_header("d/", 0, 512);
    put_header("hidden", '0', 0);
    expect_bad("only a file has data");
    put_header("d/", '7', 512);
    put_header("hidden", '0', 0);
    expect_bad("only a file has data");
    put_pax("11 path=d/\n", 11);
    put_header("f", '0', 512);
    put_header("hidden", '0', 0);
    expect_bad("only a file has data");
    put_pax("12 size=512\n", 12);
    put_header("d/", '0', 0);
    put_header("hidden", '0', 0);
    expect_bad("only a file has data");
    put_header("d/", '0', 0); /* the control: v7's way to say directory */
    CHECK_INT(read_entry(&tar, 512, 0, &err), 1);
    CHECK_INT(tar.entry.type, '5');
    ck_tar_free(&tar);
    used = 0;
    put_header("hard", '1', 512); /* everybody reads the next header behind it */
    CHECK_INT(read_entry(&tar, 512, 0, &err), 1);
    CHECK_INT(tar.entry.size, 0);
    ck_tar_free(&tar);
    used = 0;
}

static void a_nul_in_a_record(void)
{
    static const char *const bad[] = {"13 path\0x=ab\n", "10 path\0ab\n", "10 path=ab\0"};
    static const size_t sizes[] = {13, 11, 11};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char records[16];

        memcpy(records, bad[i], sizes[i]);
        records[1] = (char)('0' + sizes[i] % 10);
        put_pax(records, sizes[i]);
        put_header("f", '0', 0);
        expect_bad("malformed");
    }
}

static void acls(void)
{
    static const struct {
        const char *text;
        unsigned bits;
    } cases[] = {
        {"user::rw-,group::r--,other::r--", 0644},
        {"user::rw-\nuser:1000:rw-\ngroup::---\nmask::rw-\nother::r--\n", 0604},
        {"user::rw-,user:daemon:rw-:1,group::r--:,mask::rw-,other::---", 0640},
        {"user::rwx,user:1000:---,group::r-x,mask::r-x,other::r-x", 0700},
        {"user::rwx,group::rwx,group:5:---,mask::r-x,other::r-x", 0750},
        {"u::rwx,g::rwx,m::r-x,o::r-x", 0755},
        {"user::rw-,group::rw-\t#effective:r--,mask:r--,other:---", 0640},
        {"user::rw-,everybody::rwx", 0700},
        {"user::rwz", 0700},
        {"user", 0700},
        {"", 0700},
    };
    static const char value[] = "\2\0\0\0\1\0\6\0\377\377\377\377\2\0\6\0\350\3\0\0"
                                "\4\0\0\0\377\377\377\377\20\0\6\0\377\377\377\377"
                                "\40\0\4\0\377\377\377\377";

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_INT(ck_acl_text(cases[i].text), cases[i].bits);
    CHECK_INT(ck_acl_xattr(value, sizeof value - 1), 0604);
    for (size_t cut = 0; cut < sizeof value - 1; cut++)
        if (cut % 8 != 4 || cut == 4)
            CHECK_INT(ck_acl_xattr(value, cut), 0700);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    if (argc > 1)
        return 0;
    an_error_holds_its_text_cut_to_size();
    plain_entry();
    binary_numbers();
    numbers_that_do_not_fit();
    pax_overrides();
    an_extended_header_is_for_one_entry();
    bad_records();
    sparse_files();
    data_of_what_is_no_file();
    a_nul_in_a_record();
    acls();
    damaged_archives();
    return 0;
}
