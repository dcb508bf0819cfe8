// SPDX-License-Identifier: GPL-2.0-or-later
/* PCI addresses of a domain: the ones that libvirt 9.0 gives the same domain, kept over writing and reading, and refusals by name.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "domain_xml.h"

#define HEAD                                                                                   \
    "<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><os><type arch='x86_64' " \
    "machine='q35'>hvm</type><kernel>/k</kernel></os><features><acpi/><apic/></features><devices>"
#define TAIL "</devices></domain>"
#define DISK(dev, bus, more)                                                                                                \
    "<disk type='file'><driver name='qemu' type='raw'/><source file='/" dev "'/><target dev='" dev "' bus='" bus "'/>" more \
    "</disk>"
#define NET(more)         "<interface type='user'><model type='virtio'/>" more "</interface>"
#define AT(bus, slot, fn) "<address type='pci' domain='0x0000' bus='" bus "' slot='" slot "' function='" fn "'/>"
#define MULTI(slot)       "<address type='pci' bus='0' slot='" slot "' function='0' multifunction='on'/>"
#define PORT              "<controller type='pci' model='pcie-root-port'/>"

static const char everything[] = HEAD DISK("vda", "virtio", "") DISK("vdb", "virtio", "") DISK("sda", "scsi", "")
    DISK("sdb", "sata", "") "<controller type='usb' model='none'/><controller type='scsi' model='virtio-scsi'/>" NET(
        "") "<interface type='user'><model type='e1000e'/></interface>"
            "<filesystem type='mount' accessmode='mapped'><source dir='/tmp'/><target dir='t'/></filesystem>"
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            "<memballoon model='virtio'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
            "<vsock model='virtio'><cid auto='no' address='3'/><socket xmlns='urn:lodge:domain:1' path='/s'/></vsock>" TAIL;

static void parse(struct domain *d, const char *xml)
{
    ERROR_SCOPED(err);
    if (domain_parse(d, xml, strlen(xml), &err) < 0 || domain_assign_pci(d, &err) < 0) {
        fprintf(stderr, "%s\n%s\n", xml, error_text(&err));
        exit(1);
    }
}

static bool at(const struct domain_pci_address *a, unsigned bus, unsigned slot, unsigned function)
{
    return a->set && a->bus == bus && a->slot == slot && a->function == function;
}

static struct domain_controller *controller(struct domain *d, enum controller_type type, int index)
{
    for (unsigned i = 0; i < d->ncontrollers; i++)
        if (d->controllers[i].type == type && d->controllers[i].index == index)
            return &d->controllers[i];
    return NULL;
}

/* Ports stand in the functions of slots 1, 2, …: the numbers that libvirt writes. */
static void check_ports(struct domain *d, unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        const struct domain_controller *c = controller(d, CONTROLLER_PCI, (int)i);
        CHECK(c && c->model == CONTROLLER_ROOT_PORT);
        CHECK(at(&c->address, 0, 1 + (i - 1) / 8, (i - 1) % 8));
        CHECK(c->address.multifunction == (c->address.function == 0));
        CHECK_EQ(c->target_chassis, (int)i);
        CHECK_EQ(c->target_port, (int)(7 + i));
    }
    CHECK(!controller(d, CONTROLLER_PCI, (int)count + 1));
}

static void check_everything(struct domain *d)
{
    CHECK(at(&d->shares[0].address, 1, 0, 0));
    CHECK(at(&d->ifaces[0].address, 2, 0, 0) && at(&d->ifaces[1].address, 3, 0, 0));
    CHECK(at(&controller(d, CONTROLLER_SCSI, 0)->address, 4, 0, 0));
    CHECK(at(&controller(d, CONTROLLER_SERIAL, 0)->address, 5, 0, 0));
    CHECK(at(&controller(d, CONTROLLER_SATA, 0)->address, 0, 31, 2));
    CHECK(at(&d->disks[0].address, 6, 0, 0) && at(&d->disks[1].address, 7, 0, 0));
    CHECK(!d->disks[2].address.set && !d->disks[3].address.set);
    CHECK(at(&d->balloon.address, 8, 0, 0) && at(&d->rng_address, 9, 0, 0) && at(&d->vsock.address, 10, 0, 0));
    check_ports(d, 11); /* one to spare */
}

static void test_like_libvirt(void)
{
    struct domain d, back;
    size_t len;
    parse(&d, everything);
    check_everything(&d);
    char *text = write_domain(&d, &len);
    CHECK(strstr(text, "<address type='pci' domain='0x0000' bus='0x0a' slot='0x00' function='0x0'/>"));
    CHECK(strstr(
        text, "<target chassis='9' port='0x10'/>\n      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0' "
              "multifunction='on'/>"));
    /* Read again, nothing is added and nothing moves. */
    parse(&back, text);
    check_everything(&back);
    char *again = write_domain(&back, &len);
    CHECK(strcmp(text, again) == 0);
    free(text);
    free(again);
    domain_free(&d);
    domain_free(&back);
}

/* Two devices get three ports; whoever brings ports gets those, and no more than needed. */
static void test_ports(void)
{
    struct domain d;
    parse(&d, HEAD DISK("vda", "virtio", "") NET("") TAIL);
    check_ports(&d, 3);
    CHECK(at(&d.ifaces[0].address, 1, 0, 0) && at(&d.disks[0].address, 2, 0, 0));
    domain_free(&d);
    parse(&d, HEAD PORT PORT PORT DISK("vda", "virtio", "") NET("") TAIL);
    check_ports(&d, 3);
    domain_free(&d);
    parse(&d, HEAD PORT DISK("vda", "virtio", "") NET("") TAIL);
    check_ports(&d, 2);
    domain_free(&d);
    parse(&d, HEAD TAIL);
    check_ports(&d, 0);
    domain_free(&d);
}

/* What the user says stays; what is left open goes around it. */
static void test_given(void)
{
    struct domain d;
    parse(&d, HEAD DISK("vda", "virtio", AT("0x03", "0x00", "0x0")) NET("") TAIL); /* implies ports 1 to 3 */
    CHECK(at(&d.disks[0].address, 3, 0, 0) && at(&d.ifaces[0].address, 1, 0, 0));
    check_ports(&d, 3);
    domain_free(&d);
    parse(&d, HEAD DISK("vda", "virtio", AT("0x00", "0x01", "0x0")) NET("") NET(AT("0", "0x1e", "0")) TAIL);
    CHECK(at(&d.disks[0].address, 0, 1, 0) && at(&d.ifaces[0].address, 1, 0, 0) && at(&d.ifaces[1].address, 0, 30, 0));
    CHECK(at(&controller(&d, CONTROLLER_PCI, 1)->address, 0, 2, 0)); /* slot 1 is the disk's */
    domain_free(&d);
    parse(&d, HEAD NET(MULTI("0x5")) NET(AT("0", "0x5", "0x1")) NET("<address type='pci'/>") TAIL);
    CHECK(d.ifaces[0].address.multifunction && at(&d.ifaces[1].address, 0, 5, 1) && at(&d.ifaces[2].address, 1, 0, 0));
    domain_free(&d);
    parse(&d, HEAD "<controller type='pci' index='7' model='pcie-root-port'>" AT("0", "4", "0") "</controller>" NET("") TAIL);
    CHECK(at(&controller(&d, CONTROLLER_PCI, 7)->address, 0, 4, 0));
    CHECK(at(&d.ifaces[0].address, 1, 0, 0) && at(&controller(&d, CONTROLLER_PCI, 1)->address, 0, 1, 0));
    domain_free(&d);
}

static void test_refusals(void)
{
    refuse(HEAD DISK("vda", "virtio", AT("1", "0", "0")) NET(AT("1", "0", "0")) TAIL, "disk 'vda'",
           "0000:01:00.0 is that of network interface 1");
    refuse(HEAD NET(AT("1", "1", "0")) TAIL, "no slot 1", "slot 0 only");
    refuse(HEAD NET(AT("0", "0", "0")) TAIL, "host bridge", "1 to 30");
    refuse(HEAD NET(AT("0", "0x1f", "0")) TAIL, "the board's", "1 to 30");
    refuse(HEAD NET(AT("0", "0x20", "0")) TAIL, "<address>", "31");
    refuse(HEAD NET(AT("0x100", "0", "0")) TAIL, "<address>", "255");
    refuse(HEAD NET(AT("0", "1", "8")) TAIL, "<address>", "7");
    refuse(HEAD NET("<address type='pci' domain='1' bus='0' slot='2'/>") TAIL, "'1'", "0");
    refuse(HEAD NET(AT("0", "5", "1")) TAIL, "is empty", "multifunction");
    refuse(HEAD NET(AT("0", "5", "0")) NET(AT("0", "5", "1")) TAIL, "is alone", "multifunction");
    refuse(HEAD NET("<address type='ccw'/>") TAIL, "ccw", "pci");
    refuse(HEAD DISK("sda", "sata", AT("1", "0", "0")) TAIL, "disk 1", "'sata'");
    refuse(HEAD "<controller type='pci' index='1' model='pcie-root-port'>" AT("2", "0", "0") "</controller>" TAIL, "root port",
           "bus 0");
    refuse(HEAD "<controller type='pci' index='1' model='pcie-to-pci-bridge'/>" NET(AT("1", "0", "0")) TAIL,
           "not behind a root port", "another bus");
    refuse(HEAD "<controller type='pci' index='0' model='pcie-root-port'/>" TAIL, "index 0", "PCIe root");
    refuse(HEAD "<controller type='pci' index='1' model='pcie-root'/>" TAIL, "index 0", "PCIe root");
    refuse(HEAD "<controller type='pci' model='pcie-root'/><controller type='pci' model='pcie-root'/>" TAIL, "two PCIe roots",
           "one");
    refuse(
        HEAD
        "<controller type='pci' index='2' model='pcie-root-port'/><controller type='pci' index='2' model='pcie-root-port'/>" TAIL,
        "two of that index", "own");
    refuse(HEAD "<controller type='pci'/>" TAIL, "names its model", "pcie-root-port");
    refuse(HEAD "<controller type='usb' model='pcie-root-port'/>" TAIL, "pcie-root-port", "usb");
    refuse(HEAD "<controller type='sata' index='0'>" AT("0", "3", "0") "</controller>" TAIL, "00:1f.2", "leave");
    refuse(HEAD "<controller type='pci' model='pcie-root'>" AT("0", "3", "0") "</controller>" TAIL, "pcie-root", "no address");
    refuse(HEAD "<controller type='usb' model='none'><target chassis='1'/></controller>" TAIL, "root port", "target");
}

/* More devices than a board has room for, and more controllers than a domain. */
static void test_bounds(void)
{
    static const char port[] = PORT;
    char *xml = calloc(1, 65536), *p = xml;
    CHECK(xml);
    p = stpcpy(p, HEAD);
    for (unsigned i = 0; i <= DOMAIN_MAX_CONTROLLERS; i++)
        p = stpcpy(p, port);
    strcpy(p, TAIL);
    refuse(xml, "more than", "controllers");
    refuse(HEAD NET(AT("0xff", "0", "0")) TAIL, "more than", "controllers");
    free(xml);
}

int main(void)
{
    test_like_libvirt();
    test_ports();
    test_given();
    test_refusals();
    test_bounds();
    return 0;
}
