/* replay.c - runs a target once on each of the files that are named, without libFuzzer. */
#include "fuzz.h"

#pragma weak LLVMFuzzerInitialize

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most)
{
    return size;
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        static uint8_t data[1 << 20];
        size_t size;

        HOLDS(file);
        size = fread(data, 1, sizeof data, file);
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]); /* shown only when it ends badly */
        LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
