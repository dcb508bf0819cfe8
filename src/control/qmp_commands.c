// SPDX-License-Identifier: GPL-2.0-or-later
/* QMP's commands, as a table. A command runs on the main thread, outside of any lock, while a machine is there. */
#include <signal.h>
#include <string.h>

#include "base/util.h"
#include "block/block.h"
#include "control/qmp.h"
#include "devices/virtio/vballoon.h"
#include "net/net.h"

#define MAX_BALLOON ((int64_t)DOMAIN_MAX_MEMORY)

static int query_version(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)q;
    (void)args;
    (void)err;
    fputs("{\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": \"Lodge " LODGE_VERSION "\"}", answer);
    return 0;
}

static int query_commands(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)q;
    (void)args;
    (void)err;
    for (const struct qmp_command *c = qmp_commands; c->name; c++)
        fprintf(answer, "%s{\"name\": \"%s\"}", c == qmp_commands ? "[" : ", ", c->name);
    fputc(']', answer);
    return 0;
}

static int query_name(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)err;
    fputs("{\"name\": ", answer);
    json_put_string(answer, qmp_domain(q)->name);
    fputc('}', answer);
    return 0;
}

static int query_uuid(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    char uuid[37];
    (void)args;
    (void)err;
    domain_format_uuid(qmp_domain(q)->uuid, uuid);
    fprintf(answer, "{\"UUID\": \"%s\"}", uuid);
    return 0;
}

static int query_status(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)err;
    bool paused = machine_paused(qmp_machine(q));
    fprintf(answer, "{\"running\": %s, \"singlestep\": false, \"status\": \"%s\"}", paused ? "false" : "true",
            paused ? "paused" : "running");
    return 0;
}

static int x_query_process(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)q;
    (void)args;
    (void)err;
    fprintf(answer, "{\"pid\": %d}", (int)getpid());
    return 0;
}

static int query_cpus(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)err;
    for (unsigned i = 0; i < qmp_domain(q)->vcpus; i++)
        fprintf(answer,
                "%s{\"cpu-index\": %u, \"thread-id\": %d, \"target\": \"x86_64\", \"qom-path\": \"/machine/cpu[%u]\", \"props\": "
                "{\"socket-id\": 0, \"core-id\": %u, \"thread-id\": 0}}",
                i ? ", " : "[", i, (int)machine_cpu_tid(qmp_machine(q), i), i, i);
    fputc(']', answer);
    return 0;
}

/* ---- life ---- */

static int stop(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)answer;
    (void)err;
    if (machine_paused(qmp_machine(q)))
        return 0;
    machine_pause(qmp_machine(q));
    qmp_event(q, "STOP", "{}");
    return 0;
}

static int cont(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)answer;
    (void)err;
    if (!machine_paused(qmp_machine(q)))
        return 0;
    machine_resume(qmp_machine(q));
    qmp_event(q, "RESUME", "{}");
    return 0;
}

static int powerdown(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)answer;
    (void)err;
    machine_power_button(qmp_machine(q));
    qmp_event(q, "POWERDOWN", "{}");
    return 0;
}

/* The power button, and the power-off that follows is a reboot: a guest reboots in order without knowing how to be asked for it. */
static int x_reboot(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    qmp_ask_reboot(q);
    return powerdown(q, args, answer, err);
}

static int reset(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)answer;
    (void)err;
    machine_stop(qmp_machine(q), END_RESTART, 0);
    return 0;
}

static int quit(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)answer;
    (void)err;
    machine_stop(qmp_machine(q), END_USER, 0);
    return 0;
}

/* ---- memory ---- */

static struct vballoon *find_balloon(struct qmp *q, struct error *err)
{
    struct vballoon *b = machine_balloon(qmp_machine(q));
    if (!b)
        error_set(err, 0, "domain '%s': has no balloon; add <memballoon model='virtio'/>", qmp_domain(q)->name);
    return b;
}

static int query_balloon(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    const struct vballoon *b = find_balloon(q, err);
    (void)args;
    if (!b)
        return -1;
    fprintf(answer, "{\"actual\": %llu}", (unsigned long long)(qmp_domain(q)->memory - vballoon_inflated(b)));
    return 0;
}

/* What the guest says of its memory, less what it does not say. */
static int x_query_balloon_stats(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    static const char *const names[VBALLOON_STATS] = {"swap-in", "swap-out",  "major-faults", "minor-faults", "free",
                                                      "total",   "available", "disk-caches",  "htlb-pgalloc", "htlb-pgfail"};
    struct vballoon *b = find_balloon(q, err);
    uint64_t stats[VBALLOON_STATS];
    const char *before = "{";
    (void)args;
    if (!b)
        return -1;
    bool known = vballoon_stats(b, stats);
    for (unsigned i = 0; known && i < VBALLOON_STATS; i++) {
        if (stats[i] == UINT64_MAX)
            continue;
        fprintf(answer, "%s\"%s\": %llu", before, names[i], (unsigned long long)stats[i]);
        before = ", ";
    }
    fputs(before[0] == '{' ? "{}" : "}", answer);
    return 0;
}

static int balloon(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    int64_t bytes = json_get_int(args, "value", -1);
    struct vballoon *b = find_balloon(q, err);
    (void)answer;
    if (bytes <= 0 || bytes > MAX_BALLOON)
        return error_set(err, 0, "Parameter 'value' expects a number of bytes from 1 to %lld", (long long)MAX_BALLOON);
    if (!b)
        return -1;
    vballoon_set(b, qmp_domain(q)->memory - MIN((uint64_t)bytes, qmp_domain(q)->memory));
    return 0;
}

static int query_memory_size(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    (void)args;
    (void)err;
    fprintf(answer, "{\"base-memory\": %llu, \"plugged-memory\": 0}", (unsigned long long)qmp_domain(q)->memory);
    return 0;
}

/* ---- disks ---- */

static int query_block(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    const struct domain *d = qmp_domain(q);
    (void)args;
    (void)err;
    fputc('[', answer);
    for (unsigned i = 0; i < d->ndisks; i++) {
        const struct domain_disk *disk = &d->disks[i];
        fprintf(answer, "%s{\"device\": \"%s\", \"type\": \"unknown\", \"removable\": false, \"locked\": false", i ? ", " : "",
                disk->target);
        if (machine_disk_stats(qmp_machine(q), i)) {
            fprintf(answer, ", \"inserted\": {\"ro\": %s, \"drv\": \"%s\", \"file\": ", disk->readonly ? "true" : "false",
                    disk_format_names[disk->format]);
            json_put_string(answer, disk->file);
            fputs(", \"image\": {\"filename\": ", answer);
            json_put_string(answer, disk->file);
            fprintf(answer, ", \"format\": \"%s\", \"virtual-size\": %llu}}", disk_format_names[disk->format],
                    (unsigned long long)machine_disk_size(qmp_machine(q), i));
        }
        fputc('}', answer);
    }
    fputc(']', answer);
    return 0;
}

static int query_blockstats(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    static const struct {
        enum block_op op;
        const char *count, *bytes, *ns;
    } rows[] = {{BLOCK_READ, "rd_operations", "rd_bytes", "rd_total_time_ns"},
                {BLOCK_WRITE, "wr_operations", "wr_bytes", "wr_total_time_ns"},
                {BLOCK_FLUSH, "flush_operations", NULL, "flush_total_time_ns"},
                {BLOCK_DISCARD, "unmap_operations", "unmap_bytes", "unmap_total_time_ns"}};
    const struct domain *d = qmp_domain(q);
    (void)args;
    (void)err;
    fputc('[', answer);
    for (unsigned i = 0; i < d->ndisks; i++) {
        const struct block_stats *s = machine_disk_stats(qmp_machine(q), i);
        fprintf(answer, "%s{\"device\": \"%s\", \"stats\": {", i ? ", " : "", d->disks[i].target);
        if (d->disks[i].type == DISK_VHOSTUSER) { /* only its back end knows */
            fputs("}}", answer);
            continue;
        }
        for (unsigned r = 0; s && r < ARRAY_SIZE(rows); r++) {
            enum block_op op = rows[r].op;
            fprintf(answer, "\"%s\": %llu, \"%s\": %llu, ", rows[r].count, (unsigned long long)s->requests[op], rows[r].ns,
                    (unsigned long long)s->ns[op]);
            if (rows[r].bytes)
                fprintf(answer, "\"%s\": %llu, ", rows[r].bytes, (unsigned long long)s->bytes[op]);
        }
        fprintf(answer, "\"failed_operations\": %llu}}", s ? (unsigned long long)s->errors : 0ull);
    }
    fputc(']', answer);
    return 0;
}

/* ---- consoles ---- */

/* Those with a terminal on the host, by their number among the domain's consoles. */
static int query_chardev(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    const char *before = "";
    (void)args;
    (void)err;
    fputc('[', answer);
    for (unsigned i = 0; i < qmp_domain(q)->nchars; i++) {
        const char *path = machine_char_terminal(qmp_machine(q), i);
        if (!path)
            continue;
        fprintf(answer, "%s{\"label\": \"console%u\", \"frontend-open\": true, \"filename\": \"pty:%s\"}", before, i, path);
        before = ", ";
    }
    fputc(']', answer);
    return 0;
}

/* ---- network cards ---- */

/* By their MAC addresses, which is what all kinds of them have. */
static int x_query_interfaces(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    const struct domain *d = qmp_domain(q);
    const char *before = "";
    (void)args;
    (void)err;
    fputc('[', answer);
    for (unsigned i = 0; i < d->nifaces; i++) {
        struct net_stats s;
        char mac[IFACE_MAC_TEXT];
        if (!machine_net_stats(qmp_machine(q), i, &s))
            continue;
        iface_mac_text(&d->ifaces[i], mac);
        fprintf(answer,
                "%s{\"mac\": \"%s\", \"rx_bytes\": %llu, \"rx_packets\": %llu, \"rx_drop\": %llu, "
                "\"tx_bytes\": %llu, \"tx_packets\": %llu, \"tx_drop\": %llu}",
                before, mac, (unsigned long long)s.rx_bytes, (unsigned long long)s.rx_packets, (unsigned long long)s.rx_drop,
                (unsigned long long)s.tx_bytes, (unsigned long long)s.tx_packets, (unsigned long long)s.tx_drop);
        before = ", ";
    }
    fputc(']', answer);
    return 0;
}

/* ---- hot plug ---- */

/* The device stands alone: a domain around it makes it something that the model reads and checks. */
static int x_device_add(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    static const char head[] = "<domain type='qemu'><name>device</name><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type>"
                               "<kernel>/</kernel></os><features><acpi/><apic/></features><devices>",
                      tail[] = "</devices></domain>";
    const char *xml = json_get_string(args, "xml");
    AUTO_FREE char *whole = NULL;
    struct domain from;
    (void)answer;
    if (!xml || asprintf(&whole, "%s%s%s", head, xml, tail) < 0)
        return error_set(err, 0, "Parameter 'xml' expects a <disk> or an <interface>");
    if (domain_parse(&from, whole, strlen(whole), err) < 0)
        return -1;
    int result = machine_attach(qmp_machine(q), &from, err);
    domain_free(&from);
    return result;
}

static int device_del(struct qmp *q, const json_t *args, FILE *answer, struct error *err)
{
    const char *id = json_get_string(args, "id");
    (void)answer;
    return id ? machine_detach(qmp_machine(q), id, err) : error_set(err, 0, "Parameter 'id' expects a string");
}

const struct qmp_command qmp_commands[] = {
    {"qmp_capabilities", "enable", NULL},
    {"query-version", NULL, query_version},
    {"query-commands", NULL, query_commands},
    {"query-name", NULL, query_name},
    {"query-uuid", NULL, query_uuid},
    {"query-status", NULL, query_status},
    {"query-cpus-fast", NULL, query_cpus},
    {"x-query-process", NULL, x_query_process},
    {"stop", NULL, stop},
    {"cont", NULL, cont},
    {"system_powerdown", NULL, powerdown},
    {"system_reset", NULL, reset},
    {"x-reboot", NULL, x_reboot},
    {"quit", NULL, quit},
    {"query-balloon", NULL, query_balloon},
    {"balloon", "value!", balloon},
    {"x-query-balloon-stats", NULL, x_query_balloon_stats},
    {"query-memory-size-summary", NULL, query_memory_size},
    {"x-device-add", "xml!", x_device_add},
    {"device_del", "id!", device_del},
    {"query-block", NULL, query_block},
    {"query-blockstats", "query-nodes", query_blockstats},
    {"x-query-interfaces", NULL, x_query_interfaces},
    {"query-chardev", NULL, query_chardev},
    {NULL, NULL, NULL},
};
