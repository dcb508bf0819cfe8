// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * <serial>, <parallel>, <console>. libvirt lists the first serial port a second time as <console>; merge_consoles() takes it out again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

static const char *const backends[] = {"stdio", "file", "null", "pty", "unix", NULL}; /* enum domain_char_backend */

struct domain_char *domain_add_char(struct domain *d, struct error *err)
{
    return domain_append(&d->chars, &d->nchars, sizeof *d->chars, DOMAIN_MAX_CHARS, "serial ports and consoles", err);
}

static struct domain_char *last(void *object)
{
    struct domain *d = object;
    return &d->chars[d->nchars - 1];
}

static int begin_char(const struct xml_node *node, void *object, struct error *err)
{
    int type = xml_attr_word(node, "type", backends, 0, err);
    struct domain_char *c = type < 0 ? NULL : domain_add_char(object, err);
    if (!c)
        return -1;
    c->backend = (enum domain_char_backend)type;
    c->from_console = strcmp(node->name, "console") == 0;
    if (strcmp(node->name, "parallel") != 0)
        return 0;
    c->kind = DOMAIN_CHAR_PARALLEL;
    if (c->backend != DOMAIN_CHAR_FILE && c->backend != DOMAIN_CHAR_NULL)
        return xml_error(node, err, "type '%s' is not for a parallel port; give it type 'file' or 'null'", backends[type]);
    return 0;
}

static bool has_path(const struct domain_char *c)
{
    return c->backend == DOMAIN_CHAR_FILE || c->backend == DOMAIN_CHAR_UNIX;
}

static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_char *c = last(object);
    if (c->backend == DOMAIN_CHAR_PTY)
        return 0; /* where libvirt's copy of it ran */
    if (!has_path(c) || !xml_attr(node, "path"))
        return xml_error(node, err, "only types 'file' and 'unix' have a source, and that has a path; correct it");
    if (xml_attr_only(node, "mode", "bind", err) < 0)
        return -1;
    return xml_take_attr(node, "path", &c->path, err);
}

static int begin_serial_target(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_char *c = last(object);
    int type = xml_attr_word(node, "type", (const char *const[]){"isa-serial", "isa-debug", NULL}, 0, err);
    uint64_t port = 0;
    if (type < 0 || xml_attr_number(node, "port", type == 1 ? 0 : DOMAIN_SERIALS - 1, &port, err) < 0)
        return -1;
    c->port = (uint8_t)port;
    c->kind = type == 1 ? DOMAIN_CHAR_DEBUGCON : DOMAIN_CHAR_SERIAL;
    c->iobase = DOMAIN_DEBUGCON_PORT;
    return 0;
}

static int begin_serial_model(const struct xml_node *node, void *object, struct error *err)
{
    return xml_attr_only(node, "name", last(object)->kind == DOMAIN_CHAR_DEBUGCON ? "isa-debugcon" : "isa-serial", err);
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_char *c = last(object);
    uint64_t port = 0;
    if (xml_attr_only(node, "type", "isa", err) < 0 || xml_attr_number(node, "iobase", 0xffff, &port, err) < 0)
        return -1;
    if (c->kind != DOMAIN_CHAR_DEBUGCON && port != (c->port ? 0x2f8 : 0x3f8))
        return xml_error(node, err, "iobase of serial port %u is 0x%x; write that or remove the address", c->port, c->port ? 0x2f8 : 0x3f8);
    c->iobase = (uint16_t)port;
    return 0;
}

static int begin_console_target(const struct xml_node *node, void *object, struct error *err)
{
    int type = xml_attr_word(node, "type", (const char *const[]){"serial", "virtio", NULL}, 0, err);
    if (type < 0 || xml_attr_only(node, "port", "0", err) < 0)
        return -1;
    last(object)->kind = type == 1 ? DOMAIN_CHAR_VIRTIO : DOMAIN_CHAR_SERIAL;
    return 0;
}

static int begin_parallel_target(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    return xml_attr_only(node, "port", "0", err);
}

static void char_free(struct domain *d)
{
    for (unsigned i = 0; i < d->nchars; i++)
        free(d->chars[i].path), free(d->chars[i].tty);
    free(d->chars);
}

static bool same_backend(const struct domain_char *a, const struct domain_char *b)
{
    return a->backend == b->backend && (!has_path(a) || (a->path && b->path && strcmp(a->path, b->path) == 0));
}

/* Drops each <console> that is a serial port listed a second time. */
static void merge_consoles(struct domain *d)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < d->nchars; i++) {
        struct domain_char *c = &d->chars[i];
        bool twin = false;
        for (unsigned j = 0; j < d->nchars && c->from_console && c->kind == DOMAIN_CHAR_SERIAL; j++)
            twin |= !d->chars[j].from_console && d->chars[j].kind == DOMAIN_CHAR_SERIAL && same_backend(c, &d->chars[j]);
        if (twin) {
            free(c->path);
            *c = (struct domain_char){.backend = DOMAIN_CHAR_NULL};
            continue;
        }
        d->chars[kept++] = *c;
    }
    d->nchars = kept;
}

static int char_check(struct domain *d, struct error *err)
{
    static const char *const plural[DOMAIN_CHAR_KINDS] = {"serial ports", "virtio consoles", "debug consoles", "parallel ports"};
    unsigned stdio = 0, kinds[DOMAIN_CHAR_KINDS] = {0};
    uint16_t debug_ports[DOMAIN_MAX_CHARS] = {0};
    merge_consoles(d);
    for (unsigned i = 0; i < d->nchars; i++) {
        struct domain_char *c = &d->chars[i];
        c->from_console = false;
        stdio += c->backend == DOMAIN_CHAR_STDIO && c->kind != DOMAIN_CHAR_DEBUGCON;
        for (unsigned j = 0; j < i && c->kind == DOMAIN_CHAR_DEBUGCON; j++)
            if (debug_ports[j] == c->iobase)
                return error_set(err, 0, "domain: two debug consoles at port 0x%x; give each its own iobase", c->iobase);
        debug_ports[i] = c->kind == DOMAIN_CHAR_DEBUGCON ? c->iobase : 0;
        for (unsigned j = 0; j < i && c->kind == DOMAIN_CHAR_SERIAL; j++)
            if (d->chars[j].kind == DOMAIN_CHAR_SERIAL && d->chars[j].port == c->port)
                return error_set(err, 0, "domain: two serial ports with the number %u; give them the ports 0 and 1", c->port);
        if (++kinds[c->kind] > 1 && (c->kind == DOMAIN_CHAR_VIRTIO || c->kind == DOMAIN_CHAR_PARALLEL))
            return error_set(err, 0, "domain: two %s; one is supported", plural[c->kind]);
        if (has_path(c) && (!c->path || !c->path[0]))
            return error_set(err, 0, "domain: a console of type '%s' names no path; add <source path='…'/>", backends[c->backend]);
    }
    if (stdio > 1)
        return error_set(err, 0, "domain: the terminal is wanted by two devices; give one of them type 'file' or 'null'");
    return 0;
}

/* As libvirt has it: clients look for a console, and for its terminal. */
static void write_console_twin(FILE *out, const struct domain_char *c)
{
    if (c->tty)
        fprintf(out, "    <console type='pty' tty='%s'>\n      <source path='%s'/>\n", c->tty, c->tty);
    else
        fputs("    <console type='pty'>\n", out);
    fputs("      <target type='serial' port='0'/>\n    </console>\n", out);
}

static void write_char(FILE *out, const struct domain_char *c)
{
    const char *element = c->kind == DOMAIN_CHAR_VIRTIO ? "console" : c->kind == DOMAIN_CHAR_PARALLEL ? "parallel" : "serial";
    fprintf(out, "    <%s type='%s'", element, backends[c->backend]);
    if (c->tty && c->kind == DOMAIN_CHAR_VIRTIO)
        fprintf(out, " tty='%s'", c->tty);
    fputs(">\n", out);
    if (c->tty)
        fprintf(out, "      <source path='%s'/>\n", c->tty);
    if (has_path(c))
        xml_put_attr(out, c->backend == DOMAIN_CHAR_UNIX ? "      <source mode='bind' path='" : "      <source path='", c->path,
                     "'/>\n");
    switch (c->kind) {
    case DOMAIN_CHAR_SERIAL:
        fprintf(out, "      <target type='isa-serial' port='%u'/>\n", c->port);
        break;
    case DOMAIN_CHAR_VIRTIO:
        fputs("      <target type='virtio' port='0'/>\n", out);
        break;
    case DOMAIN_CHAR_DEBUGCON:
        fprintf(out,
                "      <target type='isa-debug'>\n        <model name='isa-debugcon'/>\n      </target>\n"
                "      <address type='isa' iobase='0x%x'/>\n",
                c->iobase);
        break;
    case DOMAIN_CHAR_PARALLEL:
        fputs("      <target port='0'/>\n", out);
        break;
    case DOMAIN_CHAR_KINDS:
        break;
    }
    fprintf(out, "    </%s>\n", element);
    if (c->kind == DOMAIN_CHAR_SERIAL && c->backend == DOMAIN_CHAR_PTY)
        write_console_twin(out, c);
}

static void char_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->nchars; i++)
        write_char(out, &d->chars[i]);
}

static const struct xml_element target_children[] = {
    {"model", 0, "name!", begin_serial_model, NULL, NULL},
    XML_END,
};
static const struct xml_element serial_children[] = {
    {"source", 0, "path mode", begin_source, NULL, NULL},
    {"target", 0, "type port", begin_serial_target, target_children, NULL},
    {"address", 0, "type! iobase!", begin_address, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element parallel_children[] = {
    {"source", 0, "path", begin_source, NULL, NULL},
    {"target", 0, "port", begin_parallel_target, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element console_children[] = {
    {"source", 0, "path mode", begin_source, NULL, NULL},
    {"target", 0, "type port", begin_console_target, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element char_devices[] = {
    {"serial", XML_MANY, "type! tty", begin_char, serial_children, NULL},
    {"parallel", XML_MANY, "type!", begin_char, parallel_children, NULL},
    {"console", XML_MANY, "type! tty", begin_char, console_children, NULL},
    XML_END,
};
const struct domain_part char_part = {.devices = char_devices, .free = char_free, .check = char_check, .write_devices = char_write};
