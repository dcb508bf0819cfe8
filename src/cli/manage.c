// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/manage.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/create.h"
#include "cli/options.h"

#define NO_OPTION                     \
    {                                 \
        NULL, NULL, NULL, OBJECT_NONE \
    }
#define WHEN_OPTIONS                                       \
    {"live", NULL, "of the guest that runs", OBJECT_NONE}, \
    {                                                      \
        "config", NULL, "of its next start", OBJECT_NONE   \
    }
#define POOL_OPTION                                                \
    {                                                              \
        "pool", "POOL", "the volume's pool (default)", OBJECT_POOL \
    }

static const struct manage_option list_options[] = {{"all", NULL, "those that do not run as well", OBJECT_NONE},
                                                    {"inactive", NULL, "only those that do not run", OBJECT_NONE},
                                                    {"name", NULL, "names only, one on a line", OBJECT_NONE},
                                                    {"title", NULL, "with their titles", OBJECT_NONE},
                                                    NO_OPTION};
static const struct manage_option all_option[] = {{"all", NULL, "those that do not run as well", OBJECT_NONE}, NO_OPTION};
static const struct manage_option start_options[] = {{"console", NULL, "and talk to its console", OBJECT_NONE},
                                                     {"paused", NULL, "its CPUs stand until 'resume'", OBJECT_NONE},
                                                     NO_OPTION};
static const struct manage_option reason_option[] = {{"reason", NULL, "and why", OBJECT_NONE}, NO_OPTION};
static const struct manage_option title_option[] = {{"title", NULL, "its title, not its description", OBJECT_NONE}, NO_OPTION};
static const struct manage_option inactive_option[] = {{"inactive", NULL, "what it has at its next start", OBJECT_NONE}, NO_OPTION};
static const struct manage_option when_options[] = {WHEN_OPTIONS, NO_OPTION};
static const struct manage_option setvcpus_options[] = {
    WHEN_OPTIONS, {"maximum", NULL, "the most that it can have", OBJECT_NONE}, NO_OPTION};
static const struct manage_option stats_options[] = {{"all", NULL, "those that do not run as well", OBJECT_NONE},
                                                     {"state", NULL, "only these groups: its state", OBJECT_NONE},
                                                     {"cpu", NULL, "time of its CPUs", OBJECT_NONE},
                                                     {"balloon", NULL, "memory", OBJECT_NONE},
                                                     {"vcpu", NULL, "each CPU", OBJECT_NONE},
                                                     {"interface", NULL, "network cards", OBJECT_NONE},
                                                     {"block", NULL, "disks", OBJECT_NONE},
                                                     NO_OPTION};
static const struct manage_option pool_option[] = {POOL_OPTION, NO_OPTION};
static const struct manage_option vol_create_options[] = {POOL_OPTION,
                                                          {"format", "raw|qcow2", "its format (by the name; raw)", OBJECT_NONE},
                                                          {"backing", "FILE", "what it begins with: another image", OBJECT_FILE},
                                                          {"backing-format", "raw|qcow2", "that image's format", OBJECT_NONE},
                                                          {"allocate", NULL, "takes its space at once", OBJECT_NONE},
                                                          NO_OPTION};
static const struct manage_option undefine_options[] = {
    {"nvram", NULL, "remove the file of its UEFI firmware's variables", OBJECT_NONE},
    {"keep-nvram", NULL, "leave that file where it is", OBJECT_NONE},
    NO_OPTION};
static const struct manage_option resize_options[] = {
    POOL_OPTION, {"shrink", NULL, "it may become smaller, and lose its end", OBJECT_NONE}, NO_OPTION};

#define DOMAIN_VERB(verb, options, fn, text)                                   \
    {                                                                          \
        verb, "DOMAIN", text, options, 1, 1, {OBJECT_DOMAIN}, .run_domain = fn \
    }
#define POOL_VERB(verb, fn, text)                                  \
    {                                                              \
        verb, "[POOL]", text, NULL, 0, 1, {OBJECT_POOL}, .run = fn \
    }

const struct manage_verb manage_verbs[] = {
    {"list", "", "show the guests that run", list_options, 0, 0, {0}, .run = manage_list},
    {"create",
     "NAME --import DISK",
     "make a guest of an image, and start it",
     NULL,
     1,
     1,
     {0},
     .run_raw = manage_create,
     .print_options = create_options},
    {"define", "FILE", "define a guest by its XML file, '-' for standard input", NULL, 1, 1, {OBJECT_FILE}, .run = manage_define},
    DOMAIN_VERB("undefine", undefine_options, manage_undefine, "forget a guest"),
    DOMAIN_VERB("edit", NULL, manage_edit, "change its XML in $EDITOR"),
    DOMAIN_VERB("start", start_options, manage_start, "start a guest"),
    DOMAIN_VERB("shutdown", NULL, manage_act, "press its power button"),
    DOMAIN_VERB("reboot", NULL, manage_act, "reboot it in order"),
    DOMAIN_VERB("reset", NULL, manage_act, "reset it at once"),
    DOMAIN_VERB("destroy", NULL, manage_act, "end it at once"),
    DOMAIN_VERB("suspend", NULL, manage_act, "stop its CPUs"),
    DOMAIN_VERB("resume", NULL, manage_act, "let them go on"),
    DOMAIN_VERB("console", NULL, manage_console, "talk to its console"),
    DOMAIN_VERB("dumpxml", inactive_option, manage_dumpxml, "show its XML"),
    DOMAIN_VERB("dominfo", NULL, manage_dominfo, "show what it is and does"),
    DOMAIN_VERB("domstate", reason_option, manage_domstate, "show its state"),
    {"domstats",
     "[DOMAIN]...",
     "show statistics of these guests, or of all that run",
     stats_options,
     0,
     MANAGE_WORDS,
     {OBJECT_DOMAIN, OBJECT_DOMAIN, OBJECT_DOMAIN, OBJECT_DOMAIN},
     .run = manage_domstats},
    DOMAIN_VERB("domblklist", inactive_option, manage_domblklist, "show its disks"),
    DOMAIN_VERB("domiflist", inactive_option, manage_domiflist, "show its network cards"),
    {"desc", "DOMAIN [TEXT]", "show or set its description", title_option, 1, 2, {OBJECT_DOMAIN}, .run_domain = manage_desc},
    {"autostart",
     "DOMAIN [on|off]",
     "start it with the daemon, or not",
     NULL,
     1,
     2,
     {OBJECT_DOMAIN},
     .run_domain = manage_autostart},
    {"setmem",
     "DOMAIN SIZE",
     "give it so much memory by its balloon",
     when_options,
     2,
     2,
     {OBJECT_DOMAIN},
     .run_domain = manage_setmem},
    DOMAIN_VERB("vcpucount", NULL, manage_vcpucount, "show how many CPUs it has"),
    {"setvcpus", "DOMAIN N", "give it so many CPUs", setvcpus_options, 2, 2, {OBJECT_DOMAIN}, .run_domain = manage_setvcpus},
    {"pool-list", "", "show the storage pools that run", all_option, 0, 0, {0}, .run = manage_pool_list},
    POOL_VERB("pool-info", manage_pool_info, "show what a pool is and holds"),
    POOL_VERB("pool-start", manage_pool_act, "start a pool"),
    POOL_VERB("pool-refresh", manage_pool_act, "read its volumes again"),
    POOL_VERB("vol-list", manage_vol_list, "show its volumes"),
    {"vol-info", "VOLUME", "show what a volume is", pool_option, 1, 1, {OBJECT_VOLUME}, .run = manage_vol_info},
    {"vol-create", "NAME SIZE", "make a volume", vol_create_options, 2, 2, {0}, .run = manage_vol_create},
    {"vol-delete", "VOLUME", "delete it, with its contents", pool_option, 1, 1, {OBJECT_VOLUME}, .run = manage_vol_delete},
    {"vol-resize", "VOLUME SIZE", "give it another size", resize_options, 2, 2, {OBJECT_VOLUME}, .run = manage_vol_resize},
    {"vol-upload",
     "VOLUME FILE",
     "write a file's bytes to it, '-' for standard input",
     pool_option,
     2,
     2,
     {OBJECT_VOLUME, OBJECT_FILE},
     .run = manage_vol_upload},
    {"vol-download",
     "VOLUME FILE",
     "read its bytes into a file, '-' for standard output",
     pool_option,
     2,
     2,
     {OBJECT_VOLUME, OBJECT_FILE},
     .run = manage_vol_download},
    {.name = NULL},
};

const struct manage_verb *manage_find(const char *name)
{
    for (const struct manage_verb *v = manage_verbs; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

void manage_help(const struct manage_verb *v)
{
    printf("usage: lodge %s %s%s[OPTION]...\n\n%c%s.\n\n", v->name, v->usage, *v->usage ? " " : "", v->help[0] - 'a' + 'A',
           v->help + 1);
    if (v->print_options)
        v->print_options();
    for (const struct manage_option *o = v->options; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-34s %s\n", left, o->help);
    }
    printf("  %-34s %s\n  %-34s %s\n  %-34s %s\n", "-c, --connect URI",
           "the daemon (qemu:///system for root, else qemu:///session)", "--json", "the answer as JSON", "--help", "show this");
}

const char *manage_option(const struct arguments *a, const char *name)
{
    for (unsigned i = 0; a->verb->options && a->verb->options[i].name; i++)
        if (strcmp(a->verb->options[i].name, name) == 0)
            return a->values[i];
    return NULL;
}

/* ---- arguments ---- */

/* The value of an option: behind '=', or the next argument. NULL with err. */
static const char *value_of(const char *name, const char *equals, int argc, char **argv, int *i, struct error *err)
{
    if (equals)
        return equals + 1;
    if (*i + 1 < argc)
        return argv[++*i];
    error_set(err, 0, "option '%s': lacks its value; write it behind", name);
    return NULL;
}

/* What every verb knows: 1 when it was that, 0 when it is the verb's own, -1 with err. */
static int common_option(struct session *s, bool *help, int argc, char **argv, int *i, struct error *err)
{
    const char *arg = argv[*i], *equals = strchr(arg, '=');
    bool is_short = strcmp(arg, "-c") == 0, is_long = strcmp(arg, "--connect") == 0 || strncmp(arg, "--connect=", 10) == 0;
    if (strcmp(arg, "--json") == 0)
        s->json = true;
    else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
        *help = true;
    else if (is_short || is_long) {
        const char *value = value_of(arg, is_long ? equals : NULL, argc, argv, i, err);
        char *uri = value ? strdup(value) : NULL;
        if (!uri)
            return -1;
        if (s->c && strcmp(uri, session_uri(s)) != 0)
            session_close(s);
        free(s->uri);
        s->uri = uri;
    } else
        return 0;
    return 1;
}

static int unknown_option(const struct manage_verb *v, const char *name, struct error *err)
{
    const char *nearest = v->options ? nearest_word(name, &v->options->name, sizeof *v->options) : NULL;
    return nearest ? error_set(err, 0, "option '--%s': is unknown; did you mean '--%s'?", name, nearest)
                   : error_set(err, 0, "option '--%s': is unknown; see 'lodge %s --help'", name, v->name);
}

static int own_option(struct arguments *a, int argc, char **argv, int *i, struct error *err)
{
    const struct manage_verb *v = a->verb;
    const char *arg = argv[*i];
    if (arg[1] != '-')
        return error_set(err, 0, "option '%s': is unknown; see 'lodge %s --help'", arg, v->name);
    const char *equals = strchr(arg, '=');
    AUTO_FREE char *name = strndup(arg + 2, equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2);
    for (unsigned o = 0; name && v->options && v->options[o].name; o++) {
        if (strcmp(v->options[o].name, name) != 0)
            continue;
        if (!v->options[o].value && equals)
            return error_set(err, 0, "option '--%s': takes no value; leave '%s' out", name, equals);
        a->values[o] = v->options[o].value ? value_of(arg, equals, argc, argv, i, err) : "";
        return a->values[o] ? 0 : -1;
    }
    return unknown_option(v, name ? name : "", err);
}

static int parse(struct session *s, struct arguments *a, bool *help, int argc, char **argv, struct error *err)
{
    const struct manage_verb *v = a->verb;
    bool words_only = false;
    for (int i = 1; i < argc; i++) {
        int known = 0;
        if (!words_only && strcmp(argv[i], "--") == 0) {
            words_only = true;
            continue;
        }
        if (words_only || argv[i][0] != '-' || !argv[i][1]) {
            if (a->nwords == v->max)
                return error_set(err, 0, "lodge %s: '%s' is too many; write lodge %s %s", v->name, argv[i], v->name, v->usage);
            a->words[a->nwords++] = argv[i];
            continue;
        }
        known = common_option(s, help, argc, argv, &i, err);
        if (known < 0 || (known == 0 && own_option(a, argc, argv, &i, err) < 0))
            return -1;
    }
    if (a->nwords < v->min && !*help)
        return error_set(err, 0, "lodge %s: too few arguments; write lodge %s %s", v->name, v->name, v->usage);
    return 0;
}

/* For a verb that takes its own options: the common ones leave argv, which ends shorter. */
static int strip_common(struct session *s, int *argc, char **argv, struct error *err)
{
    int kept = 1;
    bool help;
    for (int i = 1; i < *argc; i++) {
        int known = strcmp(argv[i], "--help") == 0 ? 0 : common_option(s, &help, *argc, argv, &i, err);
        if (known < 0)
            return -1;
        if (known == 0)
            argv[kept++] = argv[i];
    }
    *argc = kept;
    return 0;
}

/* ---- errors ---- */

/* A daemon's errors come without Lodge's form: the object in front, the remedy behind. Ours, and lodged's, have both. */
static void explain(const struct arguments *a, struct error *err)
{
    static const struct {
        int code;
        const char *remedy;
    } remedies[] = {
        {VIR_ERR_NO_SUPPORT, "this daemon does not have it; 'lodge version' and its own documentation say what it has"},
        {VIR_ERR_OPERATION_DENIED, "the connection is read-only; connect to the full socket"},
        {VIR_ERR_AUTH_FAILED, "become root, or join the group that owns the daemon's socket"},
        {VIR_ERR_AUTH_CANCELLED, "become root, or join the group that owns the daemon's socket"},
        {VIR_ERR_AUTH_UNAVAILABLE, "become root, or join the group that owns the daemon's socket"},
        {VIR_ERR_OPERATION_TIMEOUT, "try again later"},
        {VIR_ERR_NO_CONNECT, "write qemu:///system, or qemu:///session as an ordinary user"},
        {VIR_ERR_XML_ERROR, "correct it; docs/domain-xml.md lists what a guest may have"},
        {VIR_ERR_XML_DETAIL, "correct it; docs/domain-xml.md lists what a guest may have"},
        {VIR_ERR_CONFIG_UNSUPPORTED, "leave it out; docs/domain-xml.md lists what a guest may have"},
    };
    const char *object = a->nwords ? a->words[0] : NULL, *remedy = NULL;
    if (!error_is_set(err) || strstr(error_text(err), "; "))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(remedies); i++)
        if (remedies[i].code == err->errnum)
            remedy = remedies[i].remedy;
    if (err->errnum == VIR_ERR_OPERATION_INVALID && object && a->verb->objects[0] == OBJECT_DOMAIN)
        remedy = "see its state with 'lodge domstate'";
    else if (err->errnum == VIR_ERR_OPERATION_INVALID && object)
        remedy = "see its state with 'lodge pool-list --all'";
    AUTO_FREE char *text = strdup(error_text(err));
    int code = err->errnum;
    bool named = object && text && strstr(text, object);
    if (!text)
        return;
    error_clear(err);
    error_set(err, code, "%s%s%s%s; %s", object && !named ? "'" : "", object && !named ? object : "", object && !named ? "': " : "",
              text, remedy ? remedy : "the daemon's log may say more");
}

/* ---- running ---- */

static int run(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_nonnull_domain dom;
    ARENA_SCOPED(kept);
    if (session_open(s, err) < 0)
        return -1;
    if (a->verb->run)
        return a->verb->run(s, a, err);
    return session_domain(s, a->words[0], &dom, &kept, err) < 0 ? -1 : a->verb->run_domain(s, &dom, a, err);
}

int manage_run(struct session *s, int argc, char **argv, struct error *err)
{
    struct arguments a = {.verb = manage_find(argv[0])};
    bool help = false;
    s->json = false;
    int result = a.verb->run_raw ? strip_common(s, &argc, argv, err) : parse(s, &a, &help, argc, argv, err);
    if (result < 0)
        return 1;
    if (help) {
        manage_help(a.verb);
        return 0;
    }
    result = a.verb->run_raw ? a.verb->run_raw(s, argc, argv, err) : run(s, &a, err);
    explain(&a, err);
    return result < 0 ? 1 : 0;
}
