// SPDX-License-Identifier: GPL-2.0-or-later
/* struct domain as libvirt's domain XML, in the order and with the defaults that libvirt prints. */
#include "model/domain.h"

#include <errno.h>

#include "base/util.h"

/* Text or an attribute's value, escaped for both. Control characters have no place in XML 1.0; they become spaces. */
static void put_text(FILE *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '\'':
            fputs("&apos;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\t':
            fputs("&#9;", out);
            break;
        case '\n':
            fputs("&#10;", out);
            break;
        default:
            fputc((unsigned char)*p < 0x20 ? ' ' : *p, out);
        }
    }
}

static void put_element(FILE *out, int indent, const char *name, const char *text)
{
    if (!text)
        return;
    fprintf(out, "%*s<%s>", indent, "", name);
    put_text(out, text);
    fprintf(out, "</%s>\n", name);
}

static void put_attr(FILE *out, const char *before, const char *value, const char *after)
{
    fputs(before, out);
    put_text(out, value);
    fputs(after, out);
}

static void put_disk(FILE *out, const struct domain_disk *disk)
{
    fprintf(out, "    <disk type='file' device='disk'>\n      <driver name='qemu' type='%s'/>\n", disk_format_names[disk->format]);
    put_attr(out, "      <source file='", disk->file, "'/>\n");
    fprintf(out, "      <target dev='%s' bus='virtio'/>\n", disk->target);
    if (disk->readonly)
        fputs("      <readonly/>\n", out);
    fputs("    </disk>\n", out);
}

static void put_iface(FILE *out, const struct domain_iface *iface)
{
    const uint8_t *m = iface->mac;
    fprintf(out,
            "    <interface type='user'>\n      <mac address='%02x:%02x:%02x:%02x:%02x:%02x'/>\n      <model type='virtio'/>\n"
            "    </interface>\n",
            m[0], m[1], m[2], m[3], m[4], m[5]);
}

static void put_char(FILE *out, const struct domain_char *c)
{
    static const char *const backends[] = {"stdio", "file", "null"};
    const char *element = c->kind == DOMAIN_CHAR_VIRTIO ? "console" : "serial";
    fprintf(out, "    <%s type='%s'>\n", element, backends[c->backend]);
    if (c->backend == DOMAIN_CHAR_FILE)
        put_attr(out, "      <source path='", c->path, "'/>\n");
    switch (c->kind) {
    case DOMAIN_CHAR_SERIAL:
        fputs("      <target type='isa-serial' port='0'/>\n", out);
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
    }
    fprintf(out, "    </%s>\n", element);
}

static void put_devices(FILE *out, const struct domain *d)
{
    fputs("  <devices>\n", out);
    for (unsigned i = 0; i < d->ndisks; i++)
        put_disk(out, &d->disks[i]);
    for (unsigned i = 0; i < d->nifaces; i++)
        put_iface(out, &d->ifaces[i]);
    for (unsigned i = 0; i < d->nchars; i++)
        put_char(out, &d->chars[i]);
    if (d->rng)
        fputs("    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n", out);
    if (d->pvpanic)
        fputs("    <panic model='isa'/>\n", out);
    if (d->debug_exit)
        fprintf(out, "    <lodge:debug-exit iobase='0x%x'/>\n", d->debug_exit);
    fputs("  </devices>\n", out);
}

static const char *action_name(enum domain_action action)
{
    return action == DOMAIN_RESTART ? "restart" : "destroy";
}

int domain_write(const struct domain *d, FILE *out)
{
    static const char *const accels[] = {"auto", "kvm", "softkvm"};
    bool extended = d->accel == DOMAIN_ACCEL_AUTO || d->debug_exit;
    fprintf(out, "<domain type='%s'", d->accel == DOMAIN_ACCEL_KVM ? "kvm" : "qemu");
    if (extended)
        fprintf(out, " xmlns:lodge='%s'", DOMAIN_NS);
    fputs(">\n", out);
    put_element(out, 2, "name", d->name);
    if (d->has_uuid) {
        char uuid[37];
        domain_format_uuid(d->uuid, uuid);
        put_element(out, 2, "uuid", uuid);
    }
    put_element(out, 2, "title", d->title);
    put_element(out, 2, "description", d->description);
    fprintf(out, "  <memory unit='KiB'>%llu</memory>\n", (unsigned long long)(d->memory / KIB));
    fprintf(out, "  <vcpu placement='static'>%u</vcpu>\n", d->vcpus);
    fputs("  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n", out);
    put_element(out, 4, "kernel", d->os.kernel);
    put_element(out, 4, "initrd", d->os.initrd);
    put_element(out, 4, "cmdline", d->os.cmdline);
    fputs("  </os>\n  <features>\n    <acpi/>\n    <apic/>\n  </features>\n  <clock offset='utc'/>\n", out);
    put_element(out, 2, "on_poweroff", action_name(d->on_poweroff));
    put_element(out, 2, "on_reboot", action_name(d->on_reboot));
    put_element(out, 2, "on_crash", action_name(d->on_crash));
    put_devices(out, d);
    if (d->accel == DOMAIN_ACCEL_AUTO)
        fprintf(out, "  <lodge:accel mode='%s'/>\n", accels[d->accel]);
    fputs("</domain>\n", out);
    if (fflush(out) != 0 || ferror(out))
        return -1;
    return 0;
}
