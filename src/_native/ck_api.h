/* ck_api.h - everything Python may call or read: plain structs, enums and functions, no macros,
 * no includes, so that CFFI reads this very file.  uint64_t and friends come from the includer. */

/* ---- errors ------------------------------------------------------------------------------- */

enum ck_code {
    CK_E_OS = 1,       /* errnum says it */
    CK_E_ARCHIVE = 2,  /* malformed or truncated tar, or a limit exceeded */
    CK_E_UNSAFE = 3,   /* a path or link that would leave the destination */
    CK_E_PLAN = 4,     /* a launch plan that is not valid */
};

struct ck_error {
    int code;          /* enum ck_code */
    int errnum;        /* positive errno or 0 */
    char detail[512];  /* object and cause, UTF-8 or raw path bytes, NUL-terminated */
};

/* ---- layers: the tar applier (ck_tar, ck_apply, ck_path) ---------------------------------- */

/* ---- launch: the launcher's client side (ck_spawn) ---------------------------------------- */
