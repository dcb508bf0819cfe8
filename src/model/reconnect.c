// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/reconnect.h"

int reconnect_take(const struct xml_node *node, unsigned *seconds, struct error *err)
{
    uint64_t timeout = 0;
    int on = xml_attr_switch(node, "enabled", 0, err);
    if (on < 0 || xml_attr_number(node, "timeout", RECONNECT_MAX, &timeout, err) < 0)
        return -1;
    if (on && timeout == 0)
        return xml_error(node, err, "no timeout; write timeout='SECONDS', 1 or more");
    *seconds = on ? (unsigned)timeout : 0;
    return 0;
}

void reconnect_put_source(FILE *out, const char *attrs_before, const char *path, const char *attrs_after, unsigned seconds)
{
    fputs("      <source", out);
    xml_put_attr(out, attrs_before, path, attrs_after);
    if (seconds)
        fprintf(out, ">\n        <reconnect enabled='yes' timeout='%u'/>\n      </source>\n", seconds);
    else
        fputs("/>\n", out);
}
