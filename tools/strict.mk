# Every C file of the core compiled with every warning an error, by gcc with its analyzer and by
# clang when there is one.  Each result is a stamp: only what changed is compiled again.

OUT := .cache/strict
FILES := $(notdir $(wildcard src/_native/*.c))
HEADERS := $(wildcard src/_native/*.h)
WARNINGS := -std=gnu11 -D_GNU_SOURCE= -O2 -Wall -Wextra -Wconversion -Wshadow -Wvla -Wformat=2 -Wundef \
	-Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wno-unused-parameter -Werror
CLANG := $(shell command -v clang 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: all
all: $(FILES:%=$(OUT)/%.gcc) $(if $(CLANG),$(FILES:%=$(OUT)/%.clang))
	@echo "strict: $(words $(FILES)) C files, no warning$(if $(CLANG),, (gcc only: no clang here))"

# Its functions return what they open; gcc 14 takes that of dup2 for lost.
$(OUT)/ck_sys.c.gcc: WARNINGS += -Wno-analyzer-fd-leak

$(OUT)/%.gcc: src/_native/% $(HEADERS) tools/strict.mk | $(OUT)
	gcc $(WARNINGS) -Wlogical-op -Walloca -fanalyzer -c -o /dev/null $<
	@touch $@

$(OUT)/%.clang: src/_native/% $(HEADERS) tools/strict.mk | $(OUT)
	clang $(WARNINGS) -Wno-gnu-statement-expression -c -o /dev/null $<
	@touch $@

$(OUT):
	mkdir -p $@
