// SPDX-License-Identifier: GPL-2.0-or-later
/* <memoryBacking>. */
#include "model/backing.h"

#include "base/util.h"
#include "model/part.h"

const char *const memory_source_names[] = {"memfd", "anonymous", "file", NULL};
const char *const memory_access_names[] = {"shared", "private", NULL};
static const char *const memory_allocation_names[] = {"ondemand", "immediate", NULL};
const char *const memory_thp_names[] = {"on", "off", NULL};

static struct domain_backing *backing(void *object)
{
    return &((struct domain *)object)->backing;
}

BEGIN_FLAG(begin_hugepages, backing(object)->hugepages)
BEGIN_FLAG(begin_nosharepages, backing(object)->nosharepages)
BEGIN_FLAG(begin_locked, backing(object)->locked)
BEGIN_FLAG(begin_discard, backing(object)->discard)

static int begin_page(const struct xml_node *node, void *object, struct error *err)
{
    AUTO_FREE char *whole = memory_amount(node, xml_attr(node, "size"));
    if (!whole)
        return -1;
    uint64_t *size = &backing(object)->page_size;
    if (domain_parse_size(whole, 0, size) < 0 || *size < PAGE_SIZE || *size & (*size - 1))
        return xml_error(node, err, "'%.64s' is no size of a page; write a power of two, such as size='2' unit='M'", whole);
    return 0;
}

static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    int i = xml_attr_word(node, "type", memory_source_names, -1, err);
    backing(object)->source = (enum memory_source)(i + 1);
    return i < 0 ? -1 : 0;
}

static int begin_access(const struct xml_node *node, void *object, struct error *err)
{
    int i = xml_attr_word(node, "mode", memory_access_names, -1, err);
    backing(object)->access = (enum memory_access)(i + 1);
    return i < 0 ? -1 : 0;
}

static int begin_allocation(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t threads = 0;
    int i = xml_attr_word(node, "mode", memory_allocation_names, 0, err);
    if (i < 0 || xml_attr_number(node, "threads", DOMAIN_MAX_THREADS, &threads, err) < 0)
        return -1;
    backing(object)->allocation = (enum memory_allocation)(i + 1);
    backing(object)->threads = (unsigned)threads;
    return 0;
}

static int begin_thp(const struct xml_node *node, void *object, struct error *err)
{
    int i = xml_attr_word(node, "mode", memory_thp_names, -1, err);
    backing(object)->thp = (enum memory_thp)(i + 1);
    return i < 0 ? -1 : 0;
}

bool domain_memory_shared(const struct domain *d)
{
    return d->backing.source != MEMORY_ANONYMOUS && d->backing.access != MEMORY_PRIVATE;
}

static int backing_check(struct domain *d, struct error *err)
{
    const struct domain_backing *b = &d->backing;
    if (b->source == MEMORY_ANONYMOUS && b->access == MEMORY_SHARED)
        return error_set(err, 0, "domain '%s': anonymous memory cannot be shared; use source type 'memfd'", d->name);
    if (b->source == MEMORY_FILE && b->hugepages)
        return error_set(err, 0, "domain '%s': huge pages are no file's; use source type 'memfd'", d->name);
    if (b->hugepages && b->thp == MEMORY_THP_ON)
        return error_set(err, 0, "domain '%s': both reserved and transparent huge pages; leave out one of them", d->name);
    if (b->threads && b->allocation != MEMORY_IMMEDIATE)
        return error_set(err, 0, "domain '%s': threads of an allocation that is not immediate; write mode='immediate'", d->name);
    return 0;
}

static void backing_write(const struct domain *d, FILE *out)
{
    const struct domain_backing *b = &d->backing;
    if (!b->hugepages && !b->nosharepages && !b->locked && !b->source && !b->access && !b->allocation && !b->discard && !b->thp)
        return;
    fputs("  <memoryBacking>\n", out);
    if (b->hugepages && b->page_size)
        fprintf(out, "    <hugepages>\n      <page size='%llu' unit='KiB'/>\n    </hugepages>\n",
                (unsigned long long)(b->page_size / KIB));
    else if (b->hugepages)
        fputs("    <hugepages/>\n", out);
    fputs(b->nosharepages ? "    <nosharepages/>\n" : "", out);
    fputs(b->locked ? "    <locked/>\n" : "", out);
    if (b->source)
        fprintf(out, "    <source type='%s'/>\n", memory_source_names[b->source - 1]);
    if (b->access)
        fprintf(out, "    <access mode='%s'/>\n", memory_access_names[b->access - 1]);
    if (b->allocation)
        fprintf(out, "    <allocation mode='%s'", memory_allocation_names[b->allocation - 1]);
    if (b->threads)
        fprintf(out, " threads='%u'", b->threads);
    fputs(b->allocation ? "/>\n" : "", out);
    fputs(b->discard ? "    <discard/>\n" : "", out);
    if (b->thp)
        fprintf(out, "    <lodge:transparent-hugepages mode='%s'/>\n", memory_thp_names[b->thp - 1]);
    fputs("  </memoryBacking>\n", out);
}

static const struct xml_element hugepages_children[] = {
    {"page", 0, "size! unit", begin_page, NULL, NULL},
    XML_END,
};
static const struct xml_element backing_children[] = {
    {"hugepages", 0, NULL, begin_hugepages, hugepages_children, NULL},
    {"nosharepages", 0, NULL, begin_nosharepages, NULL, NULL},
    {"locked", 0, NULL, begin_locked, NULL, NULL},
    {"source", 0, "type!", begin_source, NULL, NULL},
    {"access", 0, "mode!", begin_access, NULL, NULL},
    {"allocation", 0, "mode threads", begin_allocation, NULL, NULL},
    {"discard", 0, NULL, begin_discard, NULL, NULL},
    {"transparent-hugepages", XML_FOREIGN, "mode!", begin_thp, NULL, NULL},
    XML_END,
};
static const struct xml_element backing_elements[] = {
    {"memoryBacking", 0, NULL, NULL, backing_children, NULL},
    XML_END,
};
const struct domain_part memory_backing_part = {.elements = backing_elements, .check = backing_check, .write = backing_write};
