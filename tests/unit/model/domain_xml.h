/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of domain XML: what is written, and what is refused. */
#ifndef LODGE_TESTS_DOMAIN_XML_H
#define LODGE_TESTS_DOMAIN_XML_H

#include <string.h>

#include "../devices/check.h"
#include "model/domain.h"

static inline char *write_domain(const struct domain *d, size_t *len)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len);
    CHECK(f && domain_write(d, f) == 0);
    fclose(f);
    return text;
}

/* Refused, and the error is one line that holds both words. */
static inline void refuse(const char *xml, const char *word1, const char *word2)
{
    struct domain d;
    ERROR_SCOPED(err);
    if (domain_parse(&d, xml, strlen(xml), &err) == 0) {
        fprintf(stderr, "accepted: %s\n", xml);
        exit(1);
    }
    if (!strstr(error_text(&err), word1) || !strstr(error_text(&err), word2) || strchr(error_text(&err), '\n')) {
        fprintf(stderr, "'%s' and '%s' are not in: %s\n", word1, word2, error_text(&err));
        exit(1);
    }
}

#endif
