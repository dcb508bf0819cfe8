// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls about the connection and the host. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/util.h"
#include "daemon/server.h"

#define HYPERVISOR_VERSION 7002000 /* what QMP says, as libvirt counts: clients go by it for machine types and devices */
#define LIBVIRT_VERSION    9000000

/* What clients call their hypervisor. In system and in session mode alike, the path must fit: a guest of the other mode is not
 * here. */
static int connect_open(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_open_args *a = args;
    const char *name = a->name && a->name[0] ? a->name : c->daemon->session ? "qemu:///session" : "qemu:///system";
    const char *path = strstr(name, "://");
    size_t scheme = path ? (size_t)(path - name) : 0;
    bool session = path && strncmp(path + 3 + strcspn(path + 3, "/"), "/session", 8) == 0;
    bool root = geteuid() == 0; /* root's session is the system */
    (void)ret;
    if (c->client->hv)
        return call_fail(c, VIR_ERR_OPERATION_INVALID, "the connection is open already");
    if (scheme == 4 && strncmp(name, "test", 4) == 0)
        c->client->hv = &c->daemon->test;
    else if ((scheme == 4 && strncmp(name, "qemu", 4) == 0) || (scheme == 5 && strncmp(name, "lodge", 5) == 0))
        c->client->hv = session == c->daemon->session || root ? &c->daemon->lodge : NULL;
    if (!c->client->hv)
        return call_fail(c, VIR_ERR_NO_CONNECT, "no connection driver available for '%s'; use qemu:///%s", name,
                         c->daemon->session ? "session" : "system");
    if (a->flags & VIR_CONNECT_RO)
        c->client->readonly = true;
    return 0;
}

static int connect_close(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    (void)ret;
    return 0; /* the client closes its socket next */
}

static int auth_list(struct call *c, const void *args, void *ret)
{
    static int32_t none[] = {REMOTE_AUTH_NONE};
    struct remote_auth_list_ret *r = ret;
    (void)c;
    (void)args;
    r->types.len = 1;
    r->types.val = none;
    return 0;
}

static int supports_feature(struct call *c, const void *args, void *ret)
{
    /* Keepalive, typed strings, numbered event callbacks, close callbacks, order of network updates (VIR_DRV_FEATURE_…). */
    static const int supported[] = {10, 9, 14, 15, 16};
    const struct remote_connect_supports_feature_args *a = args;
    struct remote_connect_supports_feature_ret *r = ret;
    for (unsigned i = 0; i < ARRAY_SIZE(supported); i++)
        r->supported |= a->feature == supported[i];
    if (a->feature == 10)
        c->client->keepalive = true;
    return 0;
}

static int get_type(struct call *c, const void *args, void *ret)
{
    (void)args;
    ((struct remote_connect_get_type_ret *)ret)->type = call_string(c, c->client->hv->driver->type);
    return 0;
}

static int get_version(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    ((struct remote_connect_get_version_ret *)ret)->hv_ver = HYPERVISOR_VERSION;
    return 0;
}

static int get_lib_version(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    ((struct remote_connect_get_lib_version_ret *)ret)->lib_ver = LIBVIRT_VERSION;
    return 0;
}

static int get_hostname(struct call *c, const void *args, void *ret)
{
    char name[256] = "";
    (void)args;
    gethostname(name, sizeof name - 1);
    ((struct remote_connect_get_hostname_ret *)ret)->hostname = call_string(c, name);
    return 0;
}

static int get_uri(struct call *c, const void *args, void *ret)
{
    const char *uri = c->client->hv == &c->daemon->test ? "test:///default"
                      : c->daemon->session              ? "qemu:///session"
                                                        : "qemu:///system";
    (void)args;
    ((struct remote_connect_get_uri_ret *)ret)->uri = call_string(c, uri);
    return 0;
}

static int is_secure(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    ((struct remote_connect_is_secure_ret *)ret)->secure = 1; /* a local socket */
    return 0;
}

static int get_max_vcpus(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    ((struct remote_connect_get_max_vcpus_ret *)ret)->max_vcpus = (int)DOMAIN_MAX_VCPUS;
    return 0;
}

static int register_close(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    c->client->close_callback = true;
    return 0;
}

static int unregister_close(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    c->client->close_callback = false;
    return 0;
}

/* ---- the host ---- */

static uint64_t host_memory(void)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : 0;
}

static int host_mhz(void)
{
    char line[256];
    double mhz = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && mhz == 0 && fgets(line, sizeof line, f))
        sscanf(line, "cpu MHz : %lf", &mhz);
    if (f)
        fclose(f);
    return (int)mhz;
}

static int node_get_info(struct call *c, const void *args, void *ret)
{
    struct remote_node_get_info_ret *r = ret;
    (void)c;
    (void)args;
    strcpy(r->model, "x86_64");
    r->memory = host_memory() / KIB;
    r->cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    r->mhz = host_mhz();
    r->nodes = r->sockets = r->threads = 1;
    r->cores = r->cpus;
    return 0;
}

static int node_get_cpu_map(struct call *c, const void *args, void *ret)
{
    const struct remote_node_get_cpu_map_args *a = args;
    struct remote_node_get_cpu_map_ret *r = ret;
    unsigned n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    r->ret = (int)n;
    r->online = a->need_online ? n : 0;
    if (!a->need_map)
        return 0;
    r->cpumap.len = (n + 7) / 8;
    r->cpumap.val = arena_alloc(&c->arena, r->cpumap.len);
    for (unsigned i = 0; i < n && r->cpumap.val; i++)
        r->cpumap.val[i / 8] |= (uint8_t)(1u << (i % 8));
    return r->cpumap.val ? 0 : -1;
}

static int node_get_security_model(struct call *c, const void *args, void *ret)
{
    static char none[] = "none", doi[] = "0";
    struct remote_node_get_security_model_ret *r = ret;
    (void)c;
    (void)args;
    r->model.len = sizeof none;
    r->model.val = none;
    r->doi.len = sizeof doi;
    r->doi.val = doi;
    return 0;
}

static int node_get_free_memory(struct call *c, const void *args, void *ret)
{
    struct sysinfo info;
    (void)args;
    if (sysinfo(&info) < 0)
        return call_fail(c, VIR_ERR_SYSTEM_ERROR, "host: cannot read its memory: %s", strerror(errno));
    ((struct remote_node_get_free_memory_ret *)ret)->freeMem = (uint64_t)(info.freeram + info.bufferram) * info.mem_unit;
    return 0;
}

/* ---- capabilities ---- */

static const char guest_capabilities[] =
    "  <guest>\n    <os_type>hvm</os_type>\n    <arch name='x86_64'>\n      <wordsize>64</wordsize>\n      "
    "<emulator>%s</emulator>\n"
    "      <machine maxCpus='%u' canonical='pc-q35-7.2'>q35</machine>\n      <machine maxCpus='%u'>pc-q35-7.2</machine>\n"
    "      <domain type='kvm'/>\n      <domain type='qemu'/>\n    </arch>\n    <features>\n      <acpi default='on' toggle='no'/>\n"
    "      <apic default='on' toggle='no'/>\n    </features>\n  </guest>\n";

static int get_capabilities(struct call *c, const void *args, void *ret)
{
    char uuid[37];
    unsigned cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    AUTO_FREE char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    (void)args;
    if (!f)
        return -1;
    domain_format_uuid(c->daemon->host_uuid, uuid);
    fprintf(f, "<capabilities>\n  <host>\n    <uuid>%s</uuid>\n    <cpu>\n      <arch>x86_64</arch>\n", uuid);
    fprintf(f, "      <topology sockets='1' dies='1' cores='%u' threads='1'/>\n    </cpu>\n    <topology>\n      <cells num='1'>\n",
            cpus);
    fprintf(f, "        <cell id='0'>\n          <memory unit='KiB'>%llu</memory>\n          <cpus num='%u'>\n",
            (unsigned long long)(host_memory() / KIB), cpus);
    for (unsigned i = 0; i < cpus; i++)
        fprintf(f, "            <cpu id='%u' socket_id='0' die_id='0' core_id='%u' siblings='%u'/>\n", i, i, i);
    fputs("          </cpus>\n        </cell>\n      </cells>\n    </topology>\n  </host>\n", f);
    fprintf(f, guest_capabilities, c->daemon->vm_path, DOMAIN_MAX_VCPUS, DOMAIN_MAX_VCPUS);
    fputs("</capabilities>\n", f);
    fclose(f);
    ((struct remote_connect_get_capabilities_ret *)ret)->capabilities = call_string(c, text);
    return 0;
}

static const char domain_capabilities[] =
    "<domainCapabilities>\n  <path>%s</path>\n  <domain>%s</domain>\n  <machine>pc-q35-7.2</machine>\n  <arch>x86_64</arch>\n"
    "  <vcpu max='%u'/>\n  <iothreads supported='no'/>\n"
    "  <os supported='yes'>\n    <enum name='firmware'>%s</enum>\n    <loader supported='yes'>\n%s      <enum name='type'>\n        "
    "<value>rom</value>\n        <value>pflash</value>\n"
    "      </enum>\n      <enum name='readonly'>\n        <value>yes</value>\n      </enum>\n      <enum name='secure'>\n        "
    "<value>no</value>\n"
    "      </enum>\n    </loader>\n  </os>\n"
    "  <cpu>\n    <mode name='host-passthrough' supported='yes'>\n      <enum name='hostPassthroughMigratable'>\n        "
    "<value>on</value>\n"
    "      </enum>\n    </mode>\n    <mode name='maximum' supported='no'/>\n    <mode name='host-model' supported='no'/>\n"
    "    <mode name='custom' supported='no'/>\n  </cpu>\n"
    "  <memoryBacking supported='no'/>\n"
    "  <devices>\n    <disk supported='yes'>\n      <enum name='diskDevice'>\n        <value>disk</value>\n        "
    "<value>cdrom</value>\n"
    "      </enum>\n      <enum name='bus'>\n        <value>virtio</value>\n        <value>sata</value>\n        <value>scsi</value>\n      </enum>\n"
    "      <enum name='model'>\n        <value>virtio</value>\n      </enum>\n    </disk>\n"
    "    <graphics supported='yes'>\n      <enum name='type'>\n        <value>vnc</value>\n      </enum>\n    </graphics>\n"
    "    <video supported='no'/>\n    <hostdev supported='no'/>\n    <rng supported='yes'>\n      <enum name='model'>\n"
    "        <value>virtio</value>\n      </enum>\n      <enum name='backendModel'>\n        <value>random</value>\n      "
    "</enum>\n    </rng>\n"
    "    <filesystem supported='yes'>\n      <enum name='driverType'>\n        <value>path</value>\n      </enum>\n    "
    "</filesystem>\n"
    "    <tpm supported='no'/>\n  </devices>\n"
    "  <features>\n    <gic supported='no'/>\n    <vmcoreinfo supported='no'/>\n    <genid supported='yes'/>\n    <sev "
    "supported='no'/>\n"
    "  </features>\n</domainCapabilities>\n";

static int get_domain_capabilities(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_get_domain_capabilities_args *a = args;
    const char *type = a->virttype && a->virttype[0] ? a->virttype : "kvm";
    if (a->arch && a->arch[0] && strcmp(a->arch, "x86_64") != 0)
        return call_fail(c, VIR_ERR_INVALID_ARG, "architecture '%s' is not supported; use x86_64", a->arch);
    if (strcmp(type, "kvm") != 0 && strcmp(type, "qemu") != 0)
        return call_fail(c, VIR_ERR_INVALID_ARG, "domain type '%s' is not supported; use kvm or qemu", type);
    if (a->machine && a->machine[0] && strcmp(a->machine, "q35") != 0 && strncmp(a->machine, "pc-q35-", 7) != 0)
        return call_fail(c, VIR_ERR_INVALID_ARG, "machine '%s' is not supported; use q35", a->machine);
    bool has_uefi = access(LODGE_UEFI, R_OK) == 0;
    ((struct remote_connect_get_domain_capabilities_ret *)ret)->capabilities =
        arena_printf(&c->arena, domain_capabilities, c->daemon->vm_path, type, DOMAIN_MAX_VCPUS, has_uefi ? "\n        <value>efi</value>\n      " : "",
                     has_uefi ? "      <value>" LODGE_UEFI "</value>\n" : "");
    return 0;
}

const struct handler connect_handlers[] = {
    {REMOTE_PROC_CONNECT_OPEN, connect_open, true},
    {REMOTE_PROC_CONNECT_CLOSE, connect_close, true},
    {REMOTE_PROC_AUTH_LIST, auth_list, true},
    {REMOTE_PROC_CONNECT_SUPPORTS_FEATURE, supports_feature, true},
    {REMOTE_PROC_CONNECT_GET_TYPE, get_type, false},
    {REMOTE_PROC_CONNECT_GET_VERSION, get_version, false},
    {REMOTE_PROC_CONNECT_GET_LIB_VERSION, get_lib_version, false},
    {REMOTE_PROC_CONNECT_GET_HOSTNAME, get_hostname, false},
    {REMOTE_PROC_CONNECT_GET_URI, get_uri, false},
    {REMOTE_PROC_CONNECT_IS_SECURE, is_secure, false},
    {REMOTE_PROC_CONNECT_GET_MAX_VCPUS, get_max_vcpus, false},
    {REMOTE_PROC_CONNECT_REGISTER_CLOSE_CALLBACK, register_close, false},
    {REMOTE_PROC_CONNECT_UNREGISTER_CLOSE_CALLBACK, unregister_close, false},
    {REMOTE_PROC_NODE_GET_INFO, node_get_info, false},
    {REMOTE_PROC_NODE_GET_CPU_MAP, node_get_cpu_map, false},
    {REMOTE_PROC_NODE_GET_SECURITY_MODEL, node_get_security_model, false},
    {REMOTE_PROC_NODE_GET_FREE_MEMORY, node_get_free_memory, false},
    {REMOTE_PROC_CONNECT_GET_CAPABILITIES, get_capabilities, false},
    {REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES, get_domain_capabilities, false},
    {0, NULL, false},
};
