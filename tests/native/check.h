/* check.h - expectations for the C tests: the first that fails is printed and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: expected %s\n", __FILE__, __LINE__, __func__, #condition); \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_INT(actual, wanted)                                                                  \
    do {                                                                                           \
        long long actual_ = (long long)(actual), wanted_ = (long long)(wanted);                    \
        if (actual_ != wanted_) {                                                                  \
            fprintf(stderr, "%s:%d: %s: %s is %lld, expected %lld\n", __FILE__, __LINE__,          \
                    __func__, #actual, actual_, wanted_);                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(actual, wanted)                                                                 \
    do {                                                                                           \
        const char *actual_ = (actual), *wanted_ = (wanted);                                       \
        if (strcmp(actual_, wanted_) != 0) {                                                       \
            fprintf(stderr, "%s:%d: %s: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__,      \
                    __func__, #actual, actual_, wanted_);                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
