// SPDX-License-Identifier: GPL-2.0-or-later
/* <os>: what the machine starts with. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

static const char *const boot_names[] = {"hd", "cdrom", "network", NULL}; /* enum domain_boot */
static const char *const loader_types[] = {"rom", "pflash", NULL};
static const char *const no_yes[] = {"no", "yes", NULL};

static int begin_os(const struct xml_node *node, void *object, struct error *err)
{
    int firmware = xml_attr_word(node, "firmware", (const char *const[]){"bios", "efi", NULL}, 0, err);
    ((struct domain *)object)->os.efi = firmware == 1;
    return firmware < 0 ? -1 : 0;
}

/* What a UEFI firmware is to have: none here does. */
static int begin_feature(const struct xml_node *node, void *object, struct error *err)
{
    static const char *const names[] = {"secure-boot", "enrolled-keys", NULL};
    (void)object;
    int name = xml_attr_word(node, "name", names, 0, err), enabled = xml_attr_word(node, "enabled", no_yes, 0, err);
    if (name < 0 || enabled < 0)
        return -1;
    return enabled ? xml_error(node, err, "'%s' is not supported; write enabled='no'", names[name]) : 0;
}

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

static int begin_loader(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_os *os = &((struct domain *)object)->os;
    int type = xml_attr_word(node, "type", loader_types, 0, err);
    if (type < 0 || xml_attr_only(node, "readonly", "yes", err) < 0 || xml_attr_only(node, "secure", "no", err) < 0 ||
        xml_attr_only(node, "format", "raw", err) < 0)
        return -1;
    os->loader_flash = type == 1;
    return xml_take_text(node, &os->loader, err);
}

static int begin_nvram(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_os *os = &((struct domain *)object)->os;
    if (xml_attr_only(node, "format", "raw", err) < 0)
        return -1;
    if (xml_attr(node, "template") && xml_take_attr(node, "template", &os->nvram_template, err) < 0)
        return -1;
    if (xml_take_text(node, &os->nvram, err) < 0)
        return -1;
    return os->nvram[0] ? 0 : xml_error(node, err, "the path of the variables' file is missing; write it between the tags");
}

static int begin_bios(const struct xml_node *node, void *object, struct error *err)
{
    int serial = xml_attr_word(node, "useserial", no_yes, 0, err);
    ((struct domain *)object)->os.bios_serial = serial == 1;
    return serial < 0 ? -1 : 0;
}

static int begin_boot(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_os *os = &((struct domain *)object)->os;
    int kind = xml_attr_word(node, "dev", boot_names, 0, err);
    if (kind < 0)
        return -1;
    for (unsigned i = 0; i < os->nboot; i++)
        if (os->boot[i] == (enum domain_boot)kind)
            return xml_error(node, err, "dev '%s' is named twice; remove one", boot_names[kind]);
    os->boot[os->nboot++] = (enum domain_boot)kind;
    return 0;
}

static int begin_bootmenu(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_os *os = &((struct domain *)object)->os;
    uint64_t ms = 0;
    int enable = xml_attr_word(node, "enable", no_yes, 0, err);
    if (enable < 0 || (xml_attr(node, "timeout") && xml_attr_number(node, "timeout", DOMAIN_MAX_MENU_MS, &ms, err) < 0))
        return -1;
    os->boot_menu = enable == 1;
    os->boot_menu_ms = (unsigned)ms;
    return 0;
}

/* Behind the devices with a place of their own, those of each kind stand together, in the order of os.boot or of habit. */
unsigned domain_boot_place(const struct domain *d, unsigned order, enum domain_boot kind, unsigned index)
{
    static const enum domain_boot habit[] = {DOMAIN_BOOT_HD, DOMAIN_BOOT_CDROM, DOMAIN_BOOT_NETWORK};
    const enum domain_boot *kinds = d->os.nboot ? d->os.boot : habit;
    unsigned n = d->os.nboot ? d->os.nboot : ARRAY_SIZE(habit), place = 0;
    while (place < n && kinds[place] != kind)
        place++;
    return order ? order : 1000 * (place + 1) + index;
}

static void os_free(struct domain *d)
{
    free(d->os.loader);
    free(d->os.nvram);
    free(d->os.nvram_template);
    free(d->os.kernel);
    free(d->os.initrd);
    free(d->os.cmdline);
}

static int find_efi(struct domain *d, struct error *err)
{
    if (d->os.loader && !d->os.loader_flash)
        return error_set(err, 0, "domain '%s': firmware 'efi', and a loader of type 'rom'; leave one of them out", d->name);
    if (!d->os.loader && !(d->os.loader = strdup(LODGE_UEFI)))
        return error_set(err, ENOMEM, "domain '%s': out of memory", d->name);
    d->os.loader_flash = true;
    return 0;
}

static int os_check(struct domain *d, struct error *err)
{
    bool kernel = d->os.kernel && d->os.kernel[0];
    if (d->os.efi && find_efi(d, err) < 0)
        return -1;
    if (kernel && d->os.loader)
        return error_set(err, 0, "domain '%s': both a kernel and a firmware are named; leave one of them out", d->name);
    if (d->os.nvram && (!d->os.loader || !d->os.loader_flash))
        return error_set(
            err, 0,
            "domain '%s': a file for a firmware's variables, but no firmware that keeps them; name one with --firmware "
            "uefi or <loader type='pflash'>",
            d->name);
    if (!kernel && !d->os.loader && !d->ndisks)
        return error_set(
            err, 0, "domain '%s': no kernel and no disk; name one with --kernel or <os><kernel>, with --disk or <disk>", d->name);
    if (!kernel && (d->os.initrd || d->os.cmdline))
        return error_set(err, 0, "domain '%s': an initrd or a command line, but no kernel; name one with --kernel or <os><kernel>",
                         d->name);
    if (d->os.cmdline && strlen(d->os.cmdline) >= DOMAIN_MAX_CMDLINE)
        return error_set(err, 0, "kernel command line: longer than %u bytes; shorten it", DOMAIN_MAX_CMDLINE - 1);
    return 0;
}

static void os_write(const struct domain *d, FILE *out)
{
    const struct domain_os *os = &d->os;
    fprintf(out, "  <os%s>\n    <type arch='x86_64' machine='q35'>hvm</type>\n", os->efi ? " firmware='efi'" : "");
    if (os->loader)
        xml_put_attr(out, os->loader_flash ? "    <loader readonly='yes' type='pflash'>" : "    <loader readonly='yes' type='rom'>",
                     os->loader, "</loader>\n");
    if (os->nvram && os->nvram_template) {
        xml_put_attr(out, "    <nvram template='", os->nvram_template, "'>");
        xml_put_attr(out, "", os->nvram, "</nvram>\n");
    } else {
        xml_put_element(out, 4, "nvram", os->nvram);
    }
    xml_put_element(out, 4, "kernel", os->kernel);
    xml_put_element(out, 4, "initrd", os->initrd);
    xml_put_element(out, 4, "cmdline", os->cmdline);
    for (unsigned i = 0; i < os->nboot; i++)
        fprintf(out, "    <boot dev='%s'/>\n", boot_names[os->boot[i]]);
    if (os->boot_menu && os->boot_menu_ms)
        fprintf(out, "    <bootmenu enable='yes' timeout='%u'/>\n", os->boot_menu_ms);
    else if (os->boot_menu)
        fputs("    <bootmenu enable='yes'/>\n", out);
    if (os->bios_serial)
        fputs("    <bios useserial='yes'/>\n", out);
    fputs("  </os>\n", out);
}

static const struct xml_element firmware_children[] = {
    {"feature", XML_MANY, "enabled! name!", begin_feature, NULL, NULL},
    XML_END,
};
static const struct xml_element os_children[] = {
    {"type", XML_TEXT | XML_REQUIRED, "arch machine", begin_type, NULL, NULL},
    {"firmware", 0, NULL, NULL, firmware_children, NULL},
    {"loader", XML_TEXT, "readonly type secure format", begin_loader, NULL, NULL},
    {"nvram", XML_TEXT, "template format", begin_nvram, NULL, NULL},
    {"boot", XML_MANY, "dev!", begin_boot, NULL, NULL},
    {"bootmenu", 0, "enable! timeout", begin_bootmenu, NULL, NULL},
    {"bios", 0, "useserial", begin_bios, NULL, NULL},
    {"kernel", XML_TEXT, NULL, begin_kernel, NULL, NULL},
    {"initrd", XML_TEXT, NULL, begin_initrd, NULL, NULL},
    {"cmdline", XML_TEXT, NULL, begin_cmdline, NULL, NULL},
    XML_END,
};
static const struct xml_element os_elements[] = {
    {"os", XML_REQUIRED, "firmware", begin_os, os_children, NULL},
    XML_END,
};
const struct domain_part os_part = {.elements = os_elements, .free = os_free, .check = os_check, .write = os_write};
