// SPDX-License-Identifier: GPL-2.0-or-later
/* <alias>: a user's own name of a device, which begins with "ua-". Other names are a daemon's, for as long as a guest runs, and are
 * dropped. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

#define USER_PREFIX "ua-"
#define ALIAS_MAX   64u /* bytes */

static bool is_users(const struct xml_node *node)
{
    const char *name = xml_attr(node, "name");
    return name && strncmp(name, USER_PREFIX, strlen(USER_PREFIX)) == 0;
}

int alias_take(const struct xml_node *node, char **alias, struct error *err)
{
    const char *name = xml_attr(node, "name");
    if (!is_users(node))
        return 0;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_", *p))
            return xml_error(node, err, "has a name with other signs than letters, digits, '-' and '_'; choose another");
    if (strlen(name) > ALIAS_MAX)
        return xml_error(node, err, "has a name of more than %u bytes; choose another", ALIAS_MAX);
    return xml_take_attr(node, "name", alias, err);
}

int alias_refuse(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    return is_users(node) ? xml_error(node, err, "is for disks, interfaces, folders and channels; remove it") : 0;
}

void alias_put(FILE *out, const char *alias)
{
    if (alias)
        xml_put_attr(out, "      <alias name='", alias, "'/>\n");
}

int alias_check(const struct domain *d, struct error *err)
{
    const char *seen[DOMAIN_MAX_DISKS + DOMAIN_MAX_IFACES + DOMAIN_MAX_SHARES + DOMAIN_MAX_CHANNELS];
    unsigned n = 0;
    for (unsigned i = 0; i < d->ndisks; i++)
        seen[n++] = d->disks[i].alias;
    for (unsigned i = 0; i < d->nifaces; i++)
        seen[n++] = d->ifaces[i].alias;
    for (unsigned i = 0; i < d->nshares; i++)
        seen[n++] = d->shares[i].alias;
    for (unsigned i = 0; i < d->nchannels; i++)
        seen[n++] = d->channels[i].alias;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < i && seen[i]; j++)
            if (seen[j] && strcmp(seen[i], seen[j]) == 0)
                return error_set(err, 0, "alias '%s': two devices have it; give each its own", seen[i]);
    return 0;
}
