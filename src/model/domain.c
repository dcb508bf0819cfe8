// SPDX-License-Identifier: GPL-2.0-or-later
/* struct domain as the sum of its parts. */
#include "model/domain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

#define PART(name) &name##_part,
static const struct domain_part *const parts[] = {
#include "model/parts.h"
};
#undef PART

void domain_init(struct domain *d)
{
    *d = (struct domain){0};
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i]->init)
            parts[i]->init(d);
}

void domain_free(struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i]->free)
            parts[i]->free(d);
    *d = (struct domain){0};
}

int domain_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i]->check && parts[i]->check(d, err) < 0)
            return -1;
    return alias_check(d, err);
}

void *domain_append(void *array, unsigned *count, size_t size, unsigned limit, const char *what, struct error *err)
{
    if (*count >= limit) {
        error_set(err, 0, "domain: more than %u %s; a guest has room for %u", limit, what, limit);
        return NULL;
    }
    char *grown = realloc(*(void **)array, (*count + 1) * size);
    if (!grown) {
        error_set(err, ENOMEM, "domain: out of memory");
        return NULL;
    }
    *(void **)array = grown;
    void *element = grown + size * (*count)++;
    memset(element, 0, size);
    return element;
}

int domain_write(const struct domain *d, FILE *out)
{
    bool extended = d->accel == DOMAIN_ACCEL_AUTO || d->debug_exit || iface_extended(d) || disk_extended(d) || d->vsock.path || d->backing.thp;
    fprintf(out, "<domain type='%s'", d->accel == DOMAIN_ACCEL_KVM ? "kvm" : "qemu");
    if (d->id > 0)
        fprintf(out, " id='%d'", d->id);
    if (extended)
        fprintf(out, " xmlns:lodge='%s'", DOMAIN_NS);
    fputs(">\n", out);
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        const struct domain_part *part = parts[i];
        if (part->write_devices && !(i && parts[i - 1]->write_devices))
            fputs("  <devices>\n", out);
        if (!part->write_devices && i && parts[i - 1]->write_devices)
            fputs("  </devices>\n", out);
        if (part->write_devices)
            part->write_devices(d, out);
        else if (part->write)
            part->write(d, out);
    }
    fputs("</domain>\n", out);
    return fflush(out) != 0 || ferror(out) ? -1 : 0;
}
