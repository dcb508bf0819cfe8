// SPDX-License-Identifier: GPL-2.0-or-later
/* <features>, <clock>, and what follows the guest's end: <on_poweroff>, <on_reboot>, <on_crash>. */
#include "base/util.h"
#include "model/part.h"

/* The machine always has ACPI and an APIC; libvirt's XML says so explicitly, and a document without them asks for another machine.
 */
static const struct xml_element features_children[] = {
    {"acpi", XML_REQUIRED, NULL, NULL, NULL, NULL},
    {"apic", 0, NULL, NULL, NULL, NULL},
    XML_END,
};
static const struct xml_element features_elements[] = {
    {"features", XML_REQUIRED, NULL, NULL, features_children, NULL},
    XML_END,
};

static void features_write(const struct domain *d, FILE *out)
{
    (void)d;
    fputs("  <features>\n    <acpi/>\n    <apic/>\n  </features>\n", out);
}
const struct domain_part features_part = {.elements = features_elements, .write = features_write};

/* ---- <clock> ---- */

static int begin_clock(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    return xml_attr_only(node, "offset", "utc", err);
}

static void clock_write(const struct domain *d, FILE *out)
{
    bool timers = d->hpet;
    for (unsigned i = 0; i < d->nkept; i++)
        timers |= d->kept[i].place == KEPT_TIMER;
    fputs(timers ? "  <clock offset='utc'>\n" : "  <clock offset='utc'/>\n", out);
    domain_write_timers(d, out);
    fputs(timers ? "  </clock>\n" : "", out);
}

static const struct xml_element clock_children[] = {
    {"timer", XML_MANY, "name! tickpolicy present", domain_begin_timer, NULL, NULL},
    XML_END,
};
static const struct xml_element clock_elements[] = {
    {"clock", 0, "offset", begin_clock, clock_children, NULL},
    XML_END,
};
const struct domain_part clock_part = {.elements = clock_elements, .write = clock_write};

/* ---- <on_…> ---- */

static const char *const actions[] = {"destroy", "restart", NULL}; /* enum domain_action */

static int parse_action(const struct xml_node *node, enum domain_action *action, struct error *err)
{
    int i = xml_text_word(node, actions, err);
    *action = (enum domain_action)MAX(i, 0);
    return i < 0 ? -1 : 0;
}

static int begin_on_poweroff(const struct xml_node *node, void *object, struct error *err)
{
    return parse_action(node, &((struct domain *)object)->on_poweroff, err);
}

static int begin_on_reboot(const struct xml_node *node, void *object, struct error *err)
{
    return parse_action(node, &((struct domain *)object)->on_reboot, err);
}

static int begin_on_crash(const struct xml_node *node, void *object, struct error *err)
{
    return parse_action(node, &((struct domain *)object)->on_crash, err);
}

static void lifecycle_init(struct domain *d)
{
    d->on_reboot = DOMAIN_RESTART;
}

static void lifecycle_write(const struct domain *d, FILE *out)
{
    xml_put_element(out, 2, "on_poweroff", actions[d->on_poweroff]);
    xml_put_element(out, 2, "on_reboot", actions[d->on_reboot]);
    xml_put_element(out, 2, "on_crash", actions[d->on_crash]);
}

static const struct xml_element lifecycle_elements[] = {
    {"on_poweroff", XML_TEXT, NULL, begin_on_poweroff, NULL, NULL},
    {"on_reboot", XML_TEXT, NULL, begin_on_reboot, NULL, NULL},
    {"on_crash", XML_TEXT, NULL, begin_on_crash, NULL, NULL},
    XML_END,
};
const struct domain_part lifecycle_part = {.elements = lifecycle_elements, .init = lifecycle_init, .write = lifecycle_write};
