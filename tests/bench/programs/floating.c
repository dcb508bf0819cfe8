// SPDX-License-Identifier: GPL-2.0-or-later
/* Floating point: a Whetstone-like mix, planets in double precision, and the x87's 80 bits. Results are rounded in the checksum where a libm has a say. */
#include "bench.h"
#include <math.h>

/* --- Whetstone-like: one unit passes once through each of the classic kinds of work --- */

static void rotate(double *e, int times)
{
    for (int i = 0; i < times; i++) {
        e[0] = (e[0] + e[1] + e[2] - e[3]) * 0.499975;
        e[1] = (e[0] + e[1] - e[2] + e[3]) * 0.499975;
        e[2] = (e[0] - e[1] + e[2] + e[3]) * 0.499975;
        e[3] = (-e[0] + e[1] + e[2] + e[3]) * 0.499975;
    }
}

static __attribute__((noinline)) void pair(double x, double y, double *z)
{
    x = 0.499975 * (x + y);
    y = 0.499975 * (x + y);
    *z = (x + y) / 2.0;
}

static double angles(int times)
{
    double x = 0.5, y = 0.5;
    for (int i = 0; i < times; i++) {
        x = 0.499975 * atan(2.0 * sin(x) * cos(x) / (cos(x + y) + cos(x - y) - 1.0));
        y = 0.499975 * atan(2.0 * sin(y) * cos(y) / (cos(x + y) + cos(x - y) - 1.0));
    }
    return x + y;
}

static double powers(int times)
{
    double x = 0.75;
    for (int i = 0; i < times; i++)
        x = sqrt(exp(log(x) / 0.50025));
    return x;
}

bool bench_whetstone(struct bench *b)
{
    double e[4] = {1.0, -1.0, -1.0, -1.0}, z = 0, sum = 0;
    long j = 1;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        rotate(e, 120);
        for (int i = 0; i < 345; i++)
            j = j == 1 ? 2 : j > 2 ? 0 : 1;
        for (int i = 0; i < 210; i++)
            e[(j + i) & 3] = (double)((j + i) & 3) + 0.5;
        sum += angles(32);
        for (int i = 0; i < 899; i++)
            pair(1.0 + e[i & 3], 1.0, &z);
        sum += z + powers(93);
    }
    bench_stop(b);
    bench_fold_double(b, sum, 8);
    bench_fold_double(b, e[0], 8);
    return isfinite(sum) && sum > 0;
}

/* --- the sun and its four large planets; one unit is one step of 0.01 --- */

enum { BODIES = 5 };

struct body {
    double x[3], v[3], mass;
};

static double energy(const struct body *s)
{
    double e = 0;
    for (int i = 0; i < BODIES; i++) {
        e += 0.5 * s[i].mass * (s[i].v[0] * s[i].v[0] + s[i].v[1] * s[i].v[1] + s[i].v[2] * s[i].v[2]);
        for (int j = i + 1; j < BODIES; j++) {
            double d2 = 0;
            for (int k = 0; k < 3; k++)
                d2 += (s[i].x[k] - s[j].x[k]) * (s[i].x[k] - s[j].x[k]);
            e -= s[i].mass * s[j].mass / sqrt(d2);
        }
    }
    return e;
}

static void advance(struct body *s, double dt)
{
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3] = {s[i].x[0] - s[j].x[0], s[i].x[1] - s[j].x[1], s[i].x[2] - s[j].x[2]};
            double d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2], pull = dt / (d2 * sqrt(d2));
            for (int k = 0; k < 3; k++) {
                s[i].v[k] -= d[k] * s[j].mass * pull;
                s[j].v[k] += d[k] * s[i].mass * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            s[i].x[k] += dt * s[i].v[k];
}

bool bench_nbody(struct bench *b)
{
    /* Round orbits about a sun of mass 4 pi^2 (years, astronomical units), a little inclined. */
    struct body s[BODIES] = {{.mass = 4 * M_PI * M_PI}};
    static const double radius[] = {5.2, 9.5, 19.2, 30.1}, share[] = {9.5e-4, 2.9e-4, 4.4e-5, 5.2e-5};
    for (int i = 1; i < BODIES; i++) {
        double speed = sqrt(s[0].mass / radius[i - 1]);
        s[i] = (struct body){{radius[i - 1], 0, 0.02 * i}, {0, speed, 0.03 * i}, s[0].mass * share[i - 1]};
        s[0].v[1] -= share[i - 1] * speed;
    }
    double before = energy(s);
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++)
        advance(s, 0.01);
    bench_stop(b);
    double after = energy(s);
    bench_fold_double(b, after, 9);
    bench_fold_double(b, s[4].x[0], 6);
    return fabs(after - before) < 1e-3 * fabs(before);
}

/* --- x87: square roots by Newton, and a polynomial, in long double. Only operations that IEEE 754 rounds exactly. --- */

bool bench_x87(struct bench *b)
{
    long double sum = 0, worst = 0;
    bench_start(b);
    for (unsigned long n = 1; n <= b->work; n++) {
        long double v = (long double)n, root = __builtin_sqrtl(v), guess = root * 1.0001L;
        guess = 0.5L * (guess + v / guess);
        guess = 0.5L * (guess + v / guess);
        long double error = __builtin_fabsl(guess - root) / root;
        worst = error > worst ? error : worst;
        long double p = ((1e-6L * root - 3e-5L) * root + 0.25L) * root - 1;
        sum += p - guess;
    }
    bench_stop(b);
    bench_fold_double(b, (double)sum, 15);
    return worst < 1e-15L && worst > 0;
}
