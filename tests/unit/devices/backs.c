// SPDX-License-Identifier: GPL-2.0-or-later
#include "backs.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS 16

char backs_path[64], backs_file[64];

static char folder[] = "/tmp/lodge-backs-XXXXXX";
static const char *back_program;
static int listener;

void backs_open(const char *program)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    back_program = program;
    CHECK(mkdtemp(folder));
    snprintf(backs_path, sizeof backs_path, "%s/socket", folder);
    snprintf(backs_file, sizeof backs_file, "%s/file", folder);
    strcpy(sa.sun_path, backs_path);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(listener, 4) == 0);
}

void backs_close(void)
{
    close(listener);
    unlink(backs_path);
    unlink(backs_file);
    rmdir(folder);
}

pid_t back_run(const char *const *arguments)
{
    char number[16];
    const char *argv[ARGUMENTS] = {back_program, "--fd", number};
    for (unsigned n = 3; *arguments && n + 1 < ARGUMENTS;)
        argv[n++] = *arguments++;
    snprintf(number, sizeof number, "%d", listener);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        execv(back_program, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

void back_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    back_wait(pid);
}

void back_wait(pid_t pid)
{
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

unsigned backs_open_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    CHECK(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}
