/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of the prompt and of scripts, taken apart as a shell does: '…', "…", \, # and ;. Nothing is expanded. */
#ifndef LODGE_CLI_WORDS_H
#define LODGE_CLI_WORDS_H

#include <stdbool.h>

#include "base/error.h"

#define WORDS_MAX 64u

struct words {
    char *argv[WORDS_MAX + 1]; /* ends with NULL; they lie in `text` */
    int argc;
    char *text;       /* owned */
    bool after_space; /* no word has begun at the end of the line */
};
#define WORDS_SCOPED(name) struct words name __attribute__((cleanup(words_free))) = {0}

/*
 * The first command of *line; *line is what stands behind it, NULL at the end. A quote that is not closed is an error, unless
 * `partial`: for completion, the last word is what has been typed of it. 0, or -1 with err.
 */
int words_take(const char **line, bool partial, struct words *w, struct error *err);
void words_free(struct words *w);

#endif
