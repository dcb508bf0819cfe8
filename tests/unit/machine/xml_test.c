// SPDX-License-Identifier: GPL-2.0-or-later
/* Domain XML: what is written is read back the same, what is not known is refused by name and line, and hostile documents end in an
 * error. */
#include <stdio.h>
#include <string.h>

#include "../model/domain_xml.h"
#include "base/util.h"

#define HEAD  "<domain type='kvm'><name>a</name><memory unit='MiB'>64</memory>"
#define OS    "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/k</kernel></os><features><acpi/><apic/></features>"
#define TAIL  "</domain>"
#define WHOLE HEAD OS "<devices><serial type='stdio'/></devices>" TAIL

static void test_round_trip(void)
{
    struct domain d, back;
    ERROR_SCOPED(err);
    domain_init(&d);
    d.name = strdup("g<1>&'\"");
    d.title = strdup("t");
    d.os.kernel = strdup("/boot/a & b");
    d.os.initrd = strdup("/i");
    d.os.cmdline = strdup("console=ttyS0 x=\"<y>\" z='1'");
    d.vcpus = 3;
    d.memory = 777 * MIB;
    d.limits = (struct domain_limits){.hard = 900 * MIB, .soft = 800 * MIB, .swap_hard = 1000 * MIB};
    d.on_crash = DOMAIN_RESTART;
    d.on_reboot = DOMAIN_DESTROY;
    d.rng = d.pvpanic = d.has_genid = d.hpet = true;
    d.debug_exit = 0xf4;
    d.avx512 = true;
    struct domain_disk *disk = domain_add_disk(&d, &err);
    disk->file = strdup("/tmp/d'isk");
    disk->readonly = true;
    disk = domain_add_disk(&d, &err);
    disk->type = DISK_VHOSTUSER;
    disk->socket = strdup("/run/d<sk");
    disk->reconnect = 10;
    disk->queues = 4;
    struct domain_share *fs = domain_add_share(&d, &err);
    *fs = (struct domain_share){.virtiofs = true, .socket = strdup("/run/f>s"), .tag = strdup("t'g")};
    CHECK(domain_add_iface(&d, &err));
    struct domain_iface *vhost = domain_add_iface(&d, &err);
    vhost->type = IFACE_VHOSTUSER;
    vhost->source = strdup("/run/b&ck");
    vhost->queues = 4;
    vhost->reconnect = 3;
    CHECK(domain_add_iface(&d, &err) && domain_add_iface(&d, &err) && domain_add_iface(&d, &err));
    for (unsigned i = IFACE_VHOST_AUTO; i <= IFACE_VHOST_OFF; i++) {
        d.ifaces[2 + i].type = IFACE_ETHERNET;
        d.ifaces[2 + i].vhost = (enum iface_vhost)i;
        d.ifaces[2 + i].queues = i == IFACE_VHOST_OFF ? 3 : 0;
    }
    struct domain_pmem *pmem = domain_add_pmem(&d, &err);
    *pmem = (struct domain_pmem){.path = strdup("/tmp/p<m"), .size = 6 * MIB};
    struct domain_char *c = domain_add_char(&d, &err);
    *c =
        (struct domain_char){.kind = DOMAIN_CHAR_DEBUGCON, .backend = DOMAIN_CHAR_FILE, .path = strdup("/tmp/log"), .iobase = 0xe9};
    CHECK((c = domain_add_char(&d, &err)));
    *c = (struct domain_char){.kind = DOMAIN_CHAR_PARALLEL, .backend = DOMAIN_CHAR_FILE, .path = strdup("/tmp/paper")};
    CHECK(domain_add_char(&d, &err));
    CHECK(domain_check(&d, &err) == 0);

    for (int accel = DOMAIN_ACCEL_AUTO; accel <= DOMAIN_ACCEL_SOFTKVM; accel++) {
        size_t len, len2;
        d.accel = (enum domain_accel)accel;
        char *text = write_domain(&d, &len);
        if (domain_parse(&back, text, len, &err) < 0) {
            fprintf(stderr, "%s\n%s", error_text(&err), text);
            exit(1);
        }
        CHECK_EQ(back.accel, accel);
        CHECK(strcmp(back.os.cmdline, d.os.cmdline) == 0);
        CHECK(strcmp(back.name, d.name) == 0);
        CHECK_EQ(back.memory, d.memory);
        CHECK(back.avx512 && back.hpet);
        CHECK(back.npmems == 1 && back.pmems[0].size == 6 * MIB && strcmp(back.pmems[0].path, "/tmp/p<m") == 0);
        CHECK(back.has_genid && memcmp(back.genid, d.genid, 16) == 0 && memcmp(d.genid, (uint8_t[16]){0}, 16) != 0);
        CHECK(back.disks[0].readonly && strcmp(back.disks[0].target, "vda") == 0);
        CHECK(memcmp(back.ifaces[0].mac, d.ifaces[0].mac, 6) == 0);
        for (unsigned i = IFACE_VHOST_AUTO; i <= IFACE_VHOST_OFF; i++)
            CHECK(back.ifaces[2 + i].vhost == (enum iface_vhost)i && iface_may_vhost(&back.ifaces[2 + i]) == (i != IFACE_VHOST_OFF));
        CHECK(strstr(text, "<driver name='vhost'/>") && strstr(text, "<driver name='qemu' queues='3'/>"));
        CHECK(back.ifaces[1].type == IFACE_VHOSTUSER && strcmp(back.ifaces[1].source, "/run/b&ck") == 0);
        char *again = write_domain(&back, &len2);
        CHECK(len == len2 && memcmp(text, again, len) == 0);
        free(text);
        free(again);
        domain_free(&back);
    }
    domain_free(&d);
}

/* A generation ID without a value gets one, and another each time. */
static void test_genid(void)
{
    struct domain d[2];
    ERROR_SCOPED(err);
    for (unsigned i = 0; i < 2; i++)
        CHECK(domain_parse(&d[i], HEAD OS "<genid/>" TAIL, strlen(HEAD OS "<genid/>" TAIL), &err) == 0);
    CHECK(d[0].has_genid && d[1].has_genid && memcmp(d[0].genid, d[1].genid, 16) != 0);
    domain_free(&d[0]);
    domain_free(&d[1]);
}

#define BACKING                                                                                                                                  \
    "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages><nosharepages/><locked/><source type='memfd'/><access mode='shared'/>"         \
    "<allocation mode='immediate' threads='3'/><discard/></memoryBacking><vcpu>4</vcpu><numatune><memory mode='interleave' nodeset='0-2,^1,63'/>" \
    "<memnode cellid='1' mode='preferred' nodeset='0'/></numatune>"
#define CELLS(cpus0, memory1, more)                                                                                                       \
    "<cpu mode='host-passthrough'><numa><cell id='0' cpus='" cpus0 "' memory='32' unit='MiB' memAccess='shared'/><cell id='1' cpus='2-3'" \
    " memory='" memory1 "' unit='MiB'><distances><sibling id='0' value='31'/>" more "</distances></cell></numa></cpu>"

/* Where memory comes from, and the nodes of host and guest. */
static void test_memory(void)
{
    static const char xml[] = HEAD BACKING OS CELLS("0-1", "32", "") TAIL;
    struct domain d, back;
    ERROR_SCOPED(err);
    CHECK(domain_parse(&d, xml, sizeof xml - 1, &err) == 0);
    CHECK(d.backing.hugepages && d.backing.locked && d.backing.nosharepages && d.backing.discard);
    CHECK_EQ(d.backing.page_size, 2 * MIB);
    CHECK_EQ(d.backing.source, MEMORY_MEMFD);
    CHECK_EQ(d.backing.access, MEMORY_SHARED);
    CHECK_EQ(d.backing.allocation, MEMORY_IMMEDIATE);
    CHECK_EQ(d.backing.threads, 3);
    CHECK_EQ(d.host_nodes.nodes, BIT64(0) | BIT64(2) | BIT64(63));
    CHECK_EQ(d.host_nodes.mode, NUMA_INTERLEAVE);
    CHECK_EQ(d.cell_nodes[0].nodes, 0);
    CHECK_EQ(d.cell_nodes[1].mode, NUMA_PREFERRED);
    CHECK_EQ(d.ncells, 2);
    CHECK_EQ(d.cells[1].memory, 32 * MIB);
    CHECK_EQ(domain_cpu_cell(&d, 1), 0);
    CHECK_EQ(domain_cpu_cell(&d, 3), 1);
    CHECK_EQ(domain_distance(&d, 0, 0), 10);
    CHECK_EQ(domain_distance(&d, 0, 1), 20);
    CHECK_EQ(domain_distance(&d, 1, 0), 31);
    size_t len, len2;
    char *text = write_domain(&d, &len);
    CHECK(domain_parse(&back, text, len, &err) == 0);
    char *again = write_domain(&back, &len2);
    CHECK(len == len2 && memcmp(text, again, len) == 0);
    CHECK(strstr(text, "nodeset='0,2,63'") && strstr(text, "<page size='2048' unit='KiB'/>"));
    free(text);
    free(again);
    domain_free(&back);
    domain_free(&d);
}

static void test_memory_refusals(void)
{
    refuse(HEAD "<memoryBacking><hugepages><page size='3' unit='M'/></hugepages></memoryBacking>" OS TAIL, "3M", "power of two");
    refuse(HEAD "<memoryBacking><source type='disk'/></memoryBacking>" OS TAIL, "disk", "memfd");
    refuse(HEAD "<memoryBacking><source type='anonymous'/><access mode='shared'/></memoryBacking>" OS TAIL, "anonymous", "memfd");
    refuse(HEAD "<memoryBacking><source type='file'/><hugepages/></memoryBacking>" OS TAIL, "huge", "memfd");
    refuse(HEAD "<memoryBacking><allocation threads='2'/></memoryBacking>" OS TAIL, "threads", "immediate");
    refuse(HEAD "<memoryBacking><allocation mode='immediate' threads='65'/></memoryBacking>" OS TAIL, "65", "<allocation>");
    static const char *const sets[] = {"", "64", "3-1", "0,", "a", "-1", "1-", "^", "18446744073709551616", "0^1", "^0"};
    for (unsigned i = 0; i < ARRAY_SIZE(sets); i++) {
        char xml[1024];
        snprintf(xml, sizeof xml, HEAD "<numatune><memory nodeset='%s'/></numatune>" OS TAIL, sets[i]);
        refuse(xml, "nodeset", "numbers below 64");
    }
    refuse(HEAD "<numatune><memory mode='restrictive' nodeset='0'/></numatune>" OS TAIL, "restrictive", "strict");
    refuse(HEAD BACKING OS TAIL, "cell 1", "does not exist");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1", "16", "") TAIL, "49152 KiB", "equal");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1", "18446744073709551615", "") TAIL, "cell", "memory");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("1-2", "32", "") TAIL, "CPU 2", "two NUMA cells");
    refuse(HEAD "<vcpu>3</vcpu>" OS CELLS("0-1", "32", "") TAIL, "CPU 3", "exist");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1024", "32", "") TAIL, "1024", "set of CPUs");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1", "32", "<sibling id='1' value='9'/>") TAIL, "sibling", "11");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1", "32", "<sibling id='1' value='11'/>") TAIL, "distance 11", "itself");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1", "32", "<sibling id='7' value='30'/>") TAIL, "cell 7", "does not exist");
    refuse(HEAD "<vcpu>4</vcpu>" OS CELLS("0-1", "32", "<sibling id='32' value='30'/>") TAIL, "32", "sibling");
}

#define DISK(attrs, inner) "<disk" attrs ">" inner "</disk>"

/* What administrators write about a disk's driver, and disks on block devices. */
static void test_disks(void)
{
    static const char xml[] = HEAD OS "<devices>"
        DISK(" type='block' device='disk'", "<driver name='qemu' type='raw' cache='none' io='native' discard='unmap' detect_zeroes='unmap'/><source dev='/dev/vg/a&amp;b'/><target dev='vda'/>")
        DISK(" type='file'", "<driver name='qemu' type='qcow2' cache='directsync' io='threads' discard='ignore' detect_zeroes='on'/><source file='/d'/><target dev='vdb'/>")
        DISK(" type='file'", "<driver name='qemu' type='vhdx' cache='default' io='io_uring'/><source file='/e'/><target dev='vdc'/><secret xmlns='" DOMAIN_NS "' file='/k&lt;'/>") "</devices>" TAIL;
    struct domain d, back;
    ERROR_SCOPED(err);
    size_t len, len2;
    CHECK(domain_parse(&d, xml, sizeof xml - 1, &err) == 0);
    char *text = write_domain(&d, &len);
    CHECK(domain_parse(&back, text, len, &err) == 0);
    char *again = write_domain(&back, &len2);
    CHECK(len == len2 && memcmp(text, again, len) == 0);
    CHECK(back.ndisks == 3 && back.disks[0].type == DISK_DEVICE && strcmp(back.disks[0].file, "/dev/vg/a&b") == 0 && back.disks[1].type == DISK_FILE);
    CHECK_EQ(back.disks[0].cache, DISK_DIRECT);
    CHECK_EQ(back.disks[0].io, DISK_IO_NATIVE);
    CHECK_EQ(back.disks[0].discard, DISK_DISCARD_UNMAP);
    CHECK_EQ(back.disks[0].zeroes, DISK_ZEROES_UNMAP);
    CHECK_EQ(back.disks[1].cache, DISK_DIRECTSYNC);
    CHECK_EQ(back.disks[1].io, DISK_IO_THREADS);
    CHECK_EQ(back.disks[1].discard, DISK_DISCARD_IGNORE);
    CHECK_EQ(back.disks[1].zeroes, DISK_ZEROES_ON);
    CHECK_EQ(back.disks[2].cache, DISK_WRITEBACK);
    CHECK_EQ(back.disks[2].io, DISK_IO_URING);
    CHECK(back.disks[2].format == DISK_VHDX && strcmp(back.disks[2].secret_file, "/k<") == 0 && !back.disks[1].secret_file);
    free(text);
    free(again);
    domain_free(&d);
    domain_free(&back);
    refuse(HEAD OS "<devices>" DISK(" type='block'", "<source file='/d'/><target dev='vda'/>") "</devices>" TAIL, "does not fit", "dev");
    refuse(HEAD OS "<devices>" DISK(" type='file'", "<source file='/d' dev='/d'/><target dev='vda'/>") "</devices>" TAIL, "does not fit", "dev");
    refuse(HEAD OS "<devices>" DISK(" type='file'", "<driver io='posix'/><source file='/d'/><target dev='vda'/>") "</devices>" TAIL, "io", "posix");
}

/* A server's disk in XML, and as the URL that the block layer opens; and back. */
static void test_network_disks(void)
{
#define NETWORK(source) HEAD OS "<devices>" DISK(" type='network'", source "<target dev='vda'/>") "</devices>" TAIL
    static const struct { const char *source, *url; } cases[] = {
        {"<source protocol='nbd' name='a b/c%'><host name='example.org' port='10810'/></source>", "nbd://example.org:10810/a%20b/c%25"},
        {"<source protocol='nbd'><host name='fe80::1'/></source>", "nbd://[fe80::1]/"},
        {"<source protocol='nbd' name='x' tls='yes'><host name='h'/></source>", "nbds://h/x"},
        {"<source protocol='nbd' name='x'><host transport='unix' socket='/run/a&amp;b c'/></source>", "nbd+unix:///x?socket=/run/a%26b%20c"},
        {"<source protocol='iscsi' name='iqn.2026-11.org.example:disk/2'><host name='10.0.0.1' port='3260'/></source>", "iscsi://10.0.0.1:3260/iqn.2026-11.org.example:disk/2"},
        {"<source protocol='https' name='p/d.img' query='a=b&amp;c=%20'><host name='h' port='8443'/></source>", "https://h:8443/p/d.img?a=b&c=%20"},
    };
    ERROR_SCOPED(err);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct domain d, back;
        struct netdisk n = {0};
        char *xml, *url;
        size_t len, len2;
        CHECK(asprintf(&xml, "%s%s%s", HEAD OS "<devices><disk type='network'>", cases[i].source, "<target dev='vda'/></disk></devices>" TAIL) > 0);
        CHECK(domain_parse(&d, xml, strlen(xml), &err) == 0);
        CHECK(strcmp(d.disks[0].file, cases[i].url) == 0);
        CHECK(netdisk_parse(&n, cases[i].url, &err) == 0 && (url = netdisk_url(&n)));
        CHECK(strcmp(url, cases[i].url) == 0);
        char *text = write_domain(&d, &len);
        CHECK(domain_parse(&back, text, len, &err) == 0);
        char *again = write_domain(&back, &len2);
        CHECK(len == len2 && memcmp(text, again, len) == 0 && strcmp(back.disks[0].file, cases[i].url) == 0);
        free(xml);
        free(url);
        free(text);
        free(again);
        netdisk_free(&n);
        domain_free(&d);
        domain_free(&back);
    }
    refuse(NETWORK("<source name='x'><host name='h'/></source>"), "does not fit", "protocol");
    refuse(NETWORK("<source protocol='gluster' name='x'><host name='h'/></source>"), "gluster", "nbd");
    refuse(NETWORK("<source protocol='nbd' name='x'/>"), "no server", "host");
    refuse(NETWORK("<source protocol='nbd'><host name='h/../x'/></source>"), "h/../x", "not a host");
    refuse(NETWORK("<source protocol='http' name='x'><host transport='unix' socket='/s'/></source>"), "host", "socket");
    refuse(NETWORK("<source protocol='iscsi'><host name='h'/></source>"), "iscsi", "name");
    refuse(NETWORK("<source protocol='iscsi' name='x' tls='yes'><host name='h'/></source>"), "iscsi", "TLS");
    refuse(NETWORK("<source protocol='nbd'><host name='h' socket='/s'/></source>"), "transport", "socket");
    refuse(NETWORK("<source protocol='nbd'><host name='h'/></source><transient/>"), "transient", "read-only");
    static const char *const urls[] = {"ftp://h/x", "nbd://u:p@h/x", "nbd+unix:///x", "nbd+unix:///x?socket=/s&tls-certificates=/c", "iscsi://h/x#y", "http://[h/x"};
    for (unsigned i = 0; i < ARRAY_SIZE(urls); i++) {
        struct netdisk n = {0};
        ERROR_SCOPED(refused);
        CHECK(netdisk_parse(&n, urls[i], &refused) < 0 && strstr(error_text(&refused), urls[i]));
        netdisk_free(&n);
    }
}

/* ---- a firmware that keeps its variables ---- */

#define FLASH "<os><type>hvm</type><loader readonly='yes' type='pflash'>/code</loader>"

/* This document is understood, and is written with `part` in it. */
static void accept(const char *xml, const char *part)
{
    struct domain d;
    ERROR_SCOPED(err);
    size_t len;
    if (domain_parse(&d, xml, strlen(xml), &err) < 0) {
        fprintf(stderr, "%s\n%s", error_text(&err), xml);
        exit(1);
    }
    AUTO_FREE char *text = write_domain(&d, &len);
    CHECK(strstr(text, part));
    domain_free(&d);
}

static void test_variables(void)
{
    accept(HEAD FLASH "<nvram template='/v&lt;t'>/v&amp;s</nvram></os><features><acpi/><apic/></features>" TAIL, "<nvram template='/v&lt;t'>/v&amp;s</nvram>");
    accept(HEAD FLASH "<nvram>/vars</nvram></os><features><acpi/><apic/></features>" TAIL, "type='pflash'>/code</loader>\n    <nvram>/vars</nvram>");
    accept(HEAD "<os><type>hvm</type><loader readonly='yes' secure='no' type='pflash' format='raw'>/c</loader><nvram format='raw'>/v</nvram></os>"
                "<features><acpi/><apic/></features>" TAIL, "type='pflash'>/c</loader>\n    <nvram>/v</nvram>");
    refuse(HEAD FLASH "<nvram template='/t'/></os><features><acpi/><apic/></features>" TAIL, "nvram", "path");
    refuse(HEAD "<os><type>hvm</type><loader secure='yes' type='pflash'>/c</loader></os><features><acpi/><apic/></features>" TAIL, "secure", "yes");
    accept(HEAD FLASH "</os><features><acpi/><apic/></features>" TAIL, "type='pflash'>/code");
}

static void test_refusals(void)
{
    refuse(HEAD "<os><type>hvm</type><loader type='rom'>/code</loader><nvram>/vars</nvram></os><features><acpi/><apic/></features>" TAIL, "variables", "pflash");
    refuse(HEAD "<os><type>hvm</type><loader type='flash'>/code</loader></os><features><acpi/><apic/></features>" TAIL, "flash", "type");
    refuse(HEAD OS "\n<gpu/>" TAIL, "line 2", "<gpu>");
    refuse(HEAD OS "<devices>\n\n<disk type='file' device='disk' cache='none'/></devices>" TAIL, "line 3", "'cache'");
    refuse(HEAD OS "<devices><disk type='file' device='disk'><target dev='vda'/></disk></devices>" TAIL, "disk 1", "no file");
    refuse(HEAD OS "<devices><disk type='file'><driver type='qed'/><source file='/d'/><target dev='vda'/></disk></devices>" TAIL,
           "qed", "raw");
    refuse(HEAD OS "<devices><disk type='file'><source file='/d'/><target dev='hda'/></disk></devices>" TAIL, "hda", "vda");
    refuse(HEAD OS "<memtune><hard_limit>0</hard_limit></memtune>" TAIL, "not a limit", "unit");
    refuse(HEAD OS "<memtune><min_guarantee>9</min_guarantee></memtune>" TAIL, "min_guarantee", "line");
    refuse(HEAD OS "<memtune><swap_hard_limit>9</swap_hard_limit></memtune>" TAIL, "swap_hard_limit", "hard_limit");
#define VIRTIOFS(attrs, inner) HEAD OS "<devices><filesystem type='mount'" attrs "><driver type='virtiofs'/>" inner "<target dir='t'/></filesystem></devices>" TAIL
    refuse(VIRTIOFS("", "<source dir='/d'/>"), "virtiofsd", "socket");
    refuse(VIRTIOFS("", "<source socket='/s' dir='/d'/>"), "virtiofsd", "socket");
    refuse(VIRTIOFS("", "<source socket='/s'/><readonly/>"), "read-only", "leave them out");
    refuse(VIRTIOFS(" accessmode='mapped'", "<source socket='/s'/>"), "access", "leave them out");
    refuse(HEAD OS "<devices><filesystem><source socket='/s'/><target dir='t'/></filesystem></devices>" TAIL, "virtiofs", "folder");
#define VHOST(source, rest) HEAD OS "<devices><disk type='vhostuser'>" source "<target dev='vda'/>" rest "</disk></devices>" TAIL
    refuse(VHOST("", ""), "no socket", "path");
    refuse(VHOST("<source file='/f'/>", ""), "does not fit", "path");
    refuse(VHOST("<source type='tcp' path='/s'/>", ""), "tcp", "unix");
    refuse(VHOST("<source type='unix' path='/s'><reconnect enabled='yes'/></source>", ""), "no timeout", "SECONDS");
    refuse(VHOST("<source type='unix' path='/s'/>", "<readonly/>"), "read-only", "leave them out");
    refuse(VHOST("<source type='unix' path='/s'/>", "<serial>x</serial>"), "serial", "leave them out");
    refuse(VHOST("<driver type='raw' error_policy='report'/><source type='unix' path='/s'/>", ""), "errors", "policies");
    refuse(VHOST("<driver type='qcow2'/><source type='unix' path='/s'/>", ""), "raw", "virtio");
    refuse(HEAD OS "<devices><disk><source file='/f'><reconnect enabled='yes' timeout='1'/></source><target dev='vda'/></disk></devices>" TAIL, "vhostuser",
           "remove");
    refuse(HEAD OS "<devices><disk snapshot='no'><source file='/f'/><target dev='vda'/></disk></devices>" TAIL, "vhostuser", "remove");
    refuse(HEAD OS "<devices><disk><source type='unix' path='/s'/><target dev='vda'/></disk></devices>" TAIL, "does not fit", "file");
    refuse(HEAD OS "<devices><interface type='bridge'/></devices>" TAIL, "no bridge", "source");
    refuse(HEAD OS "<devices><interface type='hostdev'/></devices>" TAIL, "hostdev", "user");
    refuse(HEAD OS "<devices><interface type='vhostuser'/></devices>" TAIL, "path of a socket", "source");
    refuse(HEAD OS "<devices><interface type='vhostuser'><source type='unix' path='/s' mode='server'/></interface></devices>" TAIL, "server", "client");
    refuse(HEAD OS "<devices><interface type='vhostuser'><source type='tcp' path='/s' mode='client'/></interface></devices>" TAIL, "tcp", "unix");
    refuse(HEAD OS "<devices><interface type='vhostuser'><source type='unix' path='/s'/><model type='e1000e'/></interface></devices>" TAIL, "to itself", "e1000e");
    refuse(HEAD OS "<devices><interface type='bridge'><source bridge='b'><reconnect enabled='yes' timeout='1'/></source></interface></devices>" TAIL, "vhostuser", "remove");
    refuse(HEAD OS "<devices><interface type='client'><source type='unix' path='/s'/></interface></devices>" TAIL, "vhostuser", "type");
    refuse(HEAD OS "<devices><interface type='user'><driver name='vhost'/></interface></devices>" TAIL, "tap device only", "leave out vhost");
    refuse(HEAD OS "<devices><interface type='ethernet'><driver name='vhost'/><pcap xmlns='" DOMAIN_NS "' file='/p'/></interface></devices>" TAIL, "captures", "leave out vhost");
    refuse(HEAD OS "<devices><interface type='ethernet'><driver name='vhost'/><model type='e1000e'/></interface></devices>" TAIL, "e1000e", "leave out vhost");
    refuse(HEAD OS "<devices><interface type='ethernet'><driver name='kernel'/></interface></devices>" TAIL, "kernel", "vhost");
    refuse(HEAD OS "<devices><interface type='user'><source bridge='br0'/></interface></devices>" TAIL, "does not fit", "bridge");
    refuse(HEAD OS "<devices><interface type='user'><mac address='01:02:03:04:05:06'/></interface></devices>" TAIL, "multicast",
           "mac");
    refuse(HEAD OS "<devices><interface type='user'><mac address='00:02:03:04:05'/></interface></devices>" TAIL, "not a MAC",
           "mac");
    refuse(HEAD OS "<cpu mode='host-passthrough'><feature policy='require' name='amx'/></cpu>" TAIL, "amx", "avx512f");
    refuse(HEAD OS "<vcpu>0</vcpu>" TAIL, "0 CPUs", "1 to");
    refuse(HEAD OS "<vcpu>99999</vcpu>" TAIL, "99999", "vcpu");
    refuse(HEAD OS "<vcpu>1</vcpu><vcpu>2</vcpu>" TAIL, "twice", "<vcpu>");
    refuse(HEAD OS "words" TAIL, "text", "<domain>");
    refuse(HEAD "<features><acpi/></features>" TAIL, "<os>", "missing");
    refuse(HEAD OS "<on_reboot>rename-restart</on_reboot>" TAIL, "rename-restart", "restart");
    refuse(HEAD OS "<uuid>12345</uuid>" TAIL, "12345", "UUID");
    refuse(HEAD OS "<devices><memory model='virtio-pmem'><source><path>/p</path></source><target><size unit='KiB'>1</size></target></memory></devices>" TAIL,
           "'/p'", "2 MiB");
    refuse(HEAD OS "<devices><memory model='dimm'/></devices>" TAIL, "dimm", "virtio-pmem");
    refuse(HEAD OS "<genid>xyz</genid>" TAIL, "xyz", "UUID");
    refuse(HEAD OS "<devices><parallel type='pty'/></devices>" TAIL, "pty", "parallel port");
    refuse(HEAD OS "<devices><parallel type='null'/><parallel type='null'/></devices>" TAIL, "two parallel ports", "one");
    refuse("<domain type='xen'/>", "xen", "kvm");
    refuse("<domain/>", "type", "missing");
    refuse("<network/>", "network", "<domain>");
    refuse("<domain type='kvm'><memory>-1</memory>", "line 1", "");
    refuse("<domain type='kvm'><name>a</name><memory unit='Qi'>1</memory>" OS TAIL, "memory", "1Qi");
    refuse("<domain type='kvm'><name>a</name><memory unit='TiB'>18446744073709551615</memory>" OS TAIL, "memory", "");
    refuse("<domain type='kvm' xmlns:x='urn:other'><x:accel mode='auto'/></domain>", "accel", "not supported");
    refuse("", "correct", "");
    refuse("<domain type='kvm'>", "line 1", "");
}

/* Entities, external files, deep nesting and size. */
static void test_hostile(void)
{
    refuse("<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'b'>]><domain type='kvm'><name>&a;</name></domain>", "DOCTYPE", "remove");
    refuse("<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>", "DOCTYPE", "");
    refuse("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain type='kvm'><name>&x;</name></domain>", "DOCTYPE", "");
    refuse("<domain type='kvm'><name>&undefined;</name></domain>", "line 1", "");
    refuse("<domain type='kvm' xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='/etc/passwd'/></domain>", "include",
           "not supported");
    size_t n = 100000;
    char *deep = malloc(3 * n + 1);
    for (size_t i = 0; i < n; i++)
        memcpy(deep + 3 * i, "<a>", 3);
    deep[3 * n] = 0;
    refuse(deep, "line", "");
    free(deep);
    char *big = malloc(DOMAIN_XML_MAX + 2);
    memset(big, ' ', DOMAIN_XML_MAX + 1);
    big[DOMAIN_XML_MAX + 1] = 0;
    refuse(big, "longer", "");
    free(big);
}

/* Bytes changed at random: parsed or refused, never worse. (The sanitizer round makes this count.) */
static void test_mutations(uint64_t seed)
{
    struct rnd r = {seed};
    static const char pieces[] = "<>&'\"/=! \n\0]x1";
    for (unsigned i = 0; i < 20000; i++) {
        char text[] = WHOLE;
        struct domain d;
        ERROR_SCOPED(err);
        for (unsigned j = rnd_below(&r, 4) + 1; j; j--)
            text[rnd_below(&r, sizeof text - 1)] = pieces[rnd_below(&r, sizeof pieces - 1)];
        if (domain_parse(&d, text, sizeof text - 1, &err) == 0)
            domain_free(&d);
        else
            CHECK(error_is_set(&err));
    }
}

static void test_console_alias(void)
{
    struct domain d;
    ERROR_SCOPED(err);
    const char *xml =
        HEAD OS "<devices><serial type='stdio'><target port='0'/></serial><console type='stdio'><target type='serial'/>"
                "</console></devices>" TAIL;
    CHECK(domain_parse(&d, xml, strlen(xml), &err) == 0);
    CHECK_EQ(d.nchars, 1);
    domain_free(&d);
    refuse(HEAD OS "<devices><serial type='stdio'/><console type='stdio'><target type='virtio'/></console></devices>" TAIL,
           "terminal", "two");
}

static void test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } rows[] = {{"512M", 512 * MIB}, {"2G", 2 * GIB}, {"1", MIB}, {"64k", 64 * KIB},           {"3MiB", 3 * MIB},
                {"5MB", 5000000},    {"", 0},         {"-1", 0},  {"18446744073709551615", 0}, {"99999999T", 0},
                {"1.5G", 0},         {"12Q", 0},      {" 1", 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t bytes = 0;
        int r = domain_parse_size(rows[i].text, MIB, &bytes);
        CHECK_EQ(r, rows[i].bytes ? 0 : -1);
        if (r == 0)
            CHECK_EQ(bytes, rows[i].bytes);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : now_ns() | 1;
    printf("seed %llu\n", (unsigned long long)seed);
    test_round_trip();
    test_genid();
    test_memory();
    test_memory_refusals();
    test_disks();
    test_network_disks();
    test_variables();
    test_refusals();
    test_hostile();
    test_console_alias();
    test_sizes();
    test_mutations(seed);
    return 0;
}
