// SPDX-License-Identifier: GPL-2.0-or-later
/* Who the domain is: <name>, <uuid>, <title>, <description>; and <lodge:accel>. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"
#include "model/part.h"

static int begin_name(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct domain *)object)->name, err);
}

static int begin_title(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct domain *)object)->title, err);
}

static int begin_description(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct domain *)object)->description, err);
}

static int begin_uuid(const struct xml_node *node, void *object, struct error *err)
{
    struct domain *d = object;
    AUTO_FREE char *text = xml_text(node);
    if (!text)
        return -1;
    if (domain_parse_uuid(text, d->uuid) < 0)
        return xml_error(node, err, "'%.64s' is not a UUID; write 32 hexadecimal digits", text);
    d->has_uuid = true;
    return 0;
}

/* Without a value: one is made. */
static int begin_genid(const struct xml_node *node, void *object, struct error *err)
{
    struct domain *d = object;
    AUTO_FREE char *text = xml_text(node);
    d->has_genid = true;
    if (text && text[0] && domain_parse_uuid(text, d->genid) < 0)
        return xml_error(node, err, "'%.64s' is not a UUID; write 32 hexadecimal digits, or leave it out", text);
    return text ? 0 : -1;
}

static int make_uuid(const struct domain *d, uint8_t uuid[16], struct error *err)
{
    if (getrandom(uuid, 16, 0) != 16)
        return error_set(err, errno, "domain '%s': no random numbers for a UUID: %s", d->name, strerror(errno));
    uuid[6] = (uuid[6] & 0x0f) | 0x40; /* RFC 4122: version 4, variant 1 */
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    return 0;
}

static void basic_free(struct domain *d)
{
    free(d->name);
    free(d->title);
    free(d->description);
}

static int basic_check(struct domain *d, struct error *err)
{
    if (!d->name || !d->name[0])
        return error_set(err, 0, "domain: no name; add <name>");
    if (strpbrk(d->name, "/\n"))
        return error_set(err, 0, "domain: the name holds a slash or a line break; choose another name");
    static const uint8_t none[16];
    if (d->has_genid && memcmp(d->genid, none, sizeof none) == 0 && make_uuid(d, d->genid, err) < 0)
        return -1;
    if (d->has_uuid)
        return 0;
    if (make_uuid(d, d->uuid, err) < 0)
        return -1;
    d->has_uuid = true;
    return 0;
}

static void basic_write(const struct domain *d, FILE *out)
{
    xml_put_element(out, 2, "name", d->name);
    if (d->has_uuid) {
        char uuid[37];
        domain_format_uuid(d->uuid, uuid);
        xml_put_element(out, 2, "uuid", uuid);
    }
    if (d->has_genid) {
        char genid[37];
        domain_format_uuid(d->genid, genid);
        xml_put_element(out, 2, "genid", genid);
    }
    xml_put_element(out, 2, "title", d->title);
    xml_put_element(out, 2, "description", d->description);
}

static const struct xml_element basic_elements[] = {
    {"name", XML_TEXT | XML_REQUIRED, NULL, begin_name, NULL, NULL},
    {"uuid", XML_TEXT, NULL, begin_uuid, NULL, NULL},
    {"genid", XML_TEXT, NULL, begin_genid, NULL, NULL},
    {"title", XML_TEXT, NULL, begin_title, NULL, NULL},
    {"description", XML_TEXT, NULL, begin_description, NULL, NULL},
    XML_END,
};
const struct domain_part basic_part = {.elements = basic_elements, .free = basic_free, .check = basic_check, .write = basic_write};

/* ---- <lodge:accel> ---- */

static const char *const accels[] = {"auto", "kvm", "softkvm", NULL}; /* enum domain_accel */

static int begin_accel(const struct xml_node *node, void *object, struct error *err)
{
    int mode = xml_attr_word(node, "mode", accels, 0, err);
    ((struct domain *)object)->accel = (enum domain_accel)MAX(mode, 0);
    return mode < 0 ? -1 : 0;
}

/* The others are the domain's type. */
static void accel_write(const struct domain *d, FILE *out)
{
    if (d->accel == DOMAIN_ACCEL_AUTO)
        fprintf(out, "  <lodge:accel mode='%s'/>\n", accels[d->accel]);
}

static const struct xml_element accel_elements[] = {
    {"accel", XML_FOREIGN, "mode!", begin_accel, NULL, NULL},
    XML_END,
};
const struct domain_part accel_part = {.elements = accel_elements, .write = accel_write};
