// SPDX-License-Identifier: GPL-2.0-or-later
/* <channel>. Without a path it is kept, and the guest does not see it: whoever starts the guest says where the socket is. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

struct domain_channel *domain_add_channel(struct domain *d, struct error *err)
{
    return domain_append(&d->channels, &d->nchannels, sizeof *d->channels, DOMAIN_MAX_CHANNELS, "channels", err);
}

static struct domain_channel *last(void *object)
{
    struct domain *d = object;
    return &d->channels[d->nchannels - 1];
}

static int begin_channel(const struct xml_node *node, void *object, struct error *err)
{
    if (xml_attr_only(node, "type", "unix", err) < 0)
        return -1;
    return domain_add_channel(object, err) ? 0 : -1;
}

static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    return xml_attr_only(node, "mode", "bind", err) < 0 ? -1 : xml_take_attr(node, "path", &last(object)->path, err);
}

static int begin_target(const struct xml_node *node, void *object, struct error *err)
{
    return xml_attr_only(node, "type", "virtio", err) < 0 ? -1 : xml_take_attr(node, "name", &last(object)->name, err);
}

static int begin_alias(const struct xml_node *node, void *object, struct error *err)
{
    return alias_take(node, &last(object)->alias, err);
}

static void channel_free(struct domain *d)
{
    for (unsigned i = 0; i < d->nchannels; i++) {
        free(d->channels[i].name);
        free(d->channels[i].path);
        free(d->channels[i].alias);
    }
    free(d->channels);
}

static int channel_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->nchannels; i++) {
        const struct domain_channel *c = &d->channels[i];
        if (!c->name || !c->name[0])
            return error_set(err, 0, "channel %u: no name; give it one, such as org.qemu.guest_agent.0", i + 1);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(c->name, d->channels[j].name) == 0)
                return error_set(err, 0, "channel '%s': there are two of that name; give each its own", c->name);
    }
    return 0;
}

static void channel_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->nchannels; i++) {
        fputs("    <channel type='unix'>\n", out);
        if (d->channels[i].path)
            xml_put_attr(out, "      <source mode='bind' path='", d->channels[i].path, "'/>\n");
        xml_put_attr(out, "      <target type='virtio' name='", d->channels[i].name, "'/>\n");
        alias_put(out, d->channels[i].alias);
        fputs("    </channel>\n", out);
    }
}

static const struct xml_element channel_children[] = {
    {"source", 0, "mode path", begin_source, NULL, NULL},
    {"target", XML_REQUIRED, "type! name state", begin_target, NULL, NULL},
    ALIAS_ELEMENT(begin_alias),
    XML_END,
};
static const struct xml_element channel_devices[] = {
    {"channel", XML_MANY, "type!", begin_channel, channel_children, NULL},
    XML_END,
};
const struct domain_part channel_part = {
    .devices = channel_devices, .free = channel_free, .check = channel_check, .write_devices = channel_write};
