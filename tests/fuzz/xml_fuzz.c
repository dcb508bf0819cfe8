// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Domain XML: what is accepted is written to XML that is accepted and writes the same again.
 *
 * With -DSTANDALONE it has a main that takes a folder of seeds: each must be accepted, and mutants must do no harm.
 */
#include <stdlib.h>
#include <string.h>

#include "model/domain.h"

static char *written(const char *xml, size_t len, size_t *out_len)
{
    struct domain d;
    ERROR_SCOPED(err);
    char *text = NULL;
    if (domain_parse(&d, xml, len, &err) < 0)
        return NULL;
    FILE *f = open_memstream(&text, out_len);
    if (!f || domain_write(&d, f) < 0)
        abort();
    fclose(f);
    domain_free(&d);
    return text;
}

/* True when it was accepted. */
static bool try(const uint8_t *data, size_t size)
{
    size_t len, again_len;
    char *text = written((const char *)data, size, &len);
    if (!text)
        return false;
    char *again = written(text, len, &again_len);
    if (!again || again_len != len || memcmp(text, again, len) != 0)
        abort();
    free(text);
    free(again);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try(data, size);
    return 0;
}

#ifdef STANDALONE
#include "seeds.h"

#define MUTANTS 2000u

int main(int argc, char **argv)
{
    return seeds_run(argc, argv, MUTANTS, try, LLVMFuzzerTestOneInput);
}
#endif
