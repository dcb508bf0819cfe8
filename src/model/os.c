// SPDX-License-Identifier: GPL-2.0-or-later
/* <os>: what the machine starts with. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

static int begin_type(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    const char *machine = xml_attr(node, "machine");
    if (xml_attr_only(node, "arch", "x86_64", err) < 0 || xml_text_word(node, (const char *const[]){"hvm", NULL}, err) < 0)
        return -1;
    if (machine && strcmp(machine, "q35") != 0 && strncmp(machine, "pc-q35-", 7) != 0)
        return xml_error(node, err, "machine '%.64s' is not supported; write 'q35'", machine);
    return 0;
}

static int begin_kernel(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct domain *)object)->os.kernel, err);
}

static int begin_initrd(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct domain *)object)->os.initrd, err);
}

static int begin_cmdline(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct domain *)object)->os.cmdline, err);
}

static void os_free(struct domain *d)
{
    free(d->os.kernel);
    free(d->os.initrd);
    free(d->os.cmdline);
}

static int os_check(struct domain *d, struct error *err)
{
    if (!d->os.kernel || !d->os.kernel[0])
        return error_set(err, 0, "domain '%s': no kernel; name one with --kernel or <os><kernel>", d->name);
    if (d->os.cmdline && strlen(d->os.cmdline) >= DOMAIN_MAX_CMDLINE)
        return error_set(err, 0, "kernel command line: longer than %u bytes; shorten it", DOMAIN_MAX_CMDLINE - 1);
    return 0;
}

static void os_write(const struct domain *d, FILE *out)
{
    fputs("  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n", out);
    xml_put_element(out, 4, "kernel", d->os.kernel);
    xml_put_element(out, 4, "initrd", d->os.initrd);
    xml_put_element(out, 4, "cmdline", d->os.cmdline);
    fputs("  </os>\n", out);
}

static const struct xml_element os_children[] = {
    {"type", XML_TEXT | XML_REQUIRED, "arch machine", begin_type, NULL, NULL},
    {"kernel", XML_TEXT, NULL, begin_kernel, NULL, NULL},
    {"initrd", XML_TEXT, NULL, begin_initrd, NULL, NULL},
    {"cmdline", XML_TEXT, NULL, begin_cmdline, NULL, NULL},
    XML_END,
};
static const struct xml_element os_elements[] = {
    {"os", XML_REQUIRED, NULL, NULL, os_children, NULL},
    XML_END,
};
const struct domain_part os_part = {.elements = os_elements, .free = os_free, .check = os_check, .write = os_write};
