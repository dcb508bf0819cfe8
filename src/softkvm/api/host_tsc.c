/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frequency of the host's TSC, in this order: CPUID's exact word, a hypervisor's word, and a short measurement, which is rounded to the
 * kernel's own figure when they agree.
 *
 * The kernel shows its figure as "bogomips" (twice the TSC's MHz while it delays by the TSC) with a grain of 5 kHz. It may stem from an
 * early, rough calibration, so it is believed only if the measurement confirms it; and it is welcome, because it makes a 2 ms measurement do.
 */
#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "softkvm/x86/cpu.h"

#define AGREE_PPM 30
#define SHORT_NS  (2 * 1000000ull)
#define LONG_NS   (20 * 1000000ull)

static uint64_t khz_cached;
static pthread_once_t khz_once = PTHREAD_ONCE_INIT;

static bool close_to(uint64_t a, uint64_t b, uint64_t ppm)
{
    uint64_t diff = a > b ? a - b : b - a;
    return diff * 1000000 <= b * ppm;
}

/* CPUID 0x15: TSC = crystal * EBX / EAX; with a silent crystal, 0x16's base frequency, which is what the ratio is made to give. 0: not told. */
static uint64_t khz_by_cpuid(void)
{
    uint32_t a, b, c, d, mhz;
    if (__get_cpuid_max(0, NULL) < 0x15)
        return 0;
    __cpuid_count(0x15, 0, a, b, c, d);
    if (!a || !b)
        return 0;
    if (c)
        return (uint64_t)c * b / a / 1000;
    if (__get_cpuid_max(0, NULL) < 0x16)
        return 0;
    __cpuid_count(0x16, 0, mhz, b, c, d);
    return (uint64_t)(mhz & 0xffff) * 1000;
}

/* Leaf 0x40000010, as VMware, KVM's VMMs and Xen fill it: EAX is the TSC in kHz. */
static uint64_t khz_by_hypervisor(void)
{
    uint32_t a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (!(c & BIT(31)))
        return 0;
    __cpuid(0x40000000, a, b, c, d);
    if (a < 0x40000010 || a > 0x4000ffff)
        return 0;
    __cpuid(0x40000010, a, b, c, d);
    return a;
}

static uint64_t khz_by_bogomips(void)
{
    AUTO_CLOSE int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    char buf[4096]; /* the first CPU's lines */
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
    if (n <= 0)
        return 0;
    buf[n] = 0;
    const char *line = strstr(buf, "\nbogomips"), *colon = line ? strchr(line, ':') : NULL;
    char *end;
    if (!colon)
        return 0;
    uint64_t khz = strtoull(colon + 1, &end, 10) * 500;
    return *end == '.' ? khz + strtoull(end + 1, NULL, 10) * 5 : khz;
}

/* CLOCK_MONOTONIC_RAW and the TSC at one moment. */
static uint64_t raw_ns(uint64_t *tsc)
{
    uint64_t best = UINT64_MAX, ns = 0;
    for (int i = 0; i < 8; i++) {
        struct timespec ts;
        uint64_t before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
        uint64_t after = __rdtsc();
        if (after - before < best) {
            best = after - before;
            *tsc = before + best / 2;
            ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
        }
    }
    return ns;
}

static uint64_t khz_measured(uint64_t for_ns)
{
    uint64_t tsc0 = 0, tsc1 = 0, ns0 = raw_ns(&tsc0);
    nanosleep(&(struct timespec){.tv_nsec = (long)for_ns}, NULL);
    uint64_t ns1 = raw_ns(&tsc1);
    return ns1 > ns0 ? (uint64_t)((unsigned __int128)(tsc1 - tsc0) * 1000000 / (ns1 - ns0)) : 0;
}

static void khz_init(void)
{
    uint64_t told = khz_by_cpuid(), measured;
    if (!told)
        told = khz_by_hypervisor();
    if (told) {
        khz_cached = told;
        return;
    }
    measured = khz_measured(SHORT_NS);
    told = khz_by_bogomips();
    if (!close_to(measured, told, AGREE_PPM)) {
        measured = khz_measured(LONG_NS);
        told = close_to(measured, told, AGREE_PPM) ? told : measured;
    }
    khz_cached = told;
}

uint64_t host_tsc_khz(void)
{
    pthread_once(&khz_once, khz_init);
    return khz_cached;
}
