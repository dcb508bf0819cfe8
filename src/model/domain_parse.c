// SPDX-License-Identifier: GPL-2.0-or-later
/* libvirt's domain XML into struct domain. The grammar is what the parts' tables name; everything else is refused (xml.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "model/domain.h"
#include "model/part.h"

#define MAX_KINDS 63

#define PART(name) &name##_part,
static const struct domain_part *const parts[] = {
#include "model/parts.h"
};
#undef PART

static int begin_domain(const struct xml_node *node, void *object, struct error *err)
{
    int type = xml_attr_word(node, "type", (const char *const[]){"kvm", "qemu", NULL}, 0, err);
    ((struct domain *)object)->accel = type == 1 ? DOMAIN_ACCEL_SOFTKVM : DOMAIN_ACCEL_KVM;
    return type < 0 ? -1 : 0;
}

static unsigned append_rows(struct xml_element *to, unsigned used, const struct xml_element *rows)
{
    for (; rows && rows->name && used < MAX_KINDS; rows++)
        to[used++] = *rows;
    return used;
}

int domain_parse(struct domain *d, const char *xml, size_t len, struct error *err)
{
    struct xml_element devices[MAX_KINDS + 1] = {0}, top[MAX_KINDS + 1] = {0};
    const struct xml_element root = {"domain", 0, "type! id", begin_domain, top, NULL};
    unsigned ndevices = 0, ntop = 0;
    domain_init(d);
    if (len > DOMAIN_XML_MAX)
        return error_set(err, 0, "domain XML: longer than %u bytes; shorten it", DOMAIN_XML_MAX);
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        ndevices = append_rows(devices, ndevices, parts[i]->devices);
        ntop = append_rows(top, ntop, parts[i]->elements);
    }
    append_rows(top, ntop, (const struct xml_element[]){{"devices", 0, NULL, NULL, devices, NULL}, XML_END});
    if (xml_parse(xml, len, "domain XML", DOMAIN_NS, &root, d, err) == 0 && domain_check(d, err) == 0)
        return 0;
    domain_free(d);
    return -1;
}

int domain_parse_fd(struct domain *d, int fd, struct error *err)
{
    AUTO_FREE char *xml = malloc(DOMAIN_XML_MAX + 1);
    size_t len = 0;
    domain_init(d);
    if (!xml)
        return error_set(err, ENOMEM, "domain XML: out of memory");
    while (len <= DOMAIN_XML_MAX) {
        ssize_t n = read(fd, xml + len, DOMAIN_XML_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, errno, "domain XML: cannot read: %s", strerror(errno));
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return domain_parse(d, xml, len, err);
}
