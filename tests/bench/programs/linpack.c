// SPDX-License-Identifier: GPL-2.0-or-later
/* LINPACK: solves dense systems by LU with partial pivoting, columns first, so that the inner loop is y += a * x. Built twice, for SSE2 and for
 * AVX2 with FMA; LINPACK names the function. One unit is one system of order 200. */
#include "bench.h"
#include <math.h>
#include <stdlib.h>

enum { ORDER = 200 };

static void axpy(int n, double a, const double *restrict x, double *restrict y)
{
    for (int i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void factor(double (*a)[ORDER], int *pivot)
{
    for (int k = 0; k < ORDER; k++) {
        int p = k;
        for (int i = k + 1; i < ORDER; i++)
            if (fabs(a[k][i]) > fabs(a[k][p]))
                p = i;
        pivot[k] = p;
        double t = a[k][p];
        a[k][p] = a[k][k];
        a[k][k] = t;
        for (int i = k + 1; i < ORDER; i++)
            a[k][i] /= -t;
        for (int j = k + 1; j < ORDER; j++) {
            double m = a[j][p];
            a[j][p] = a[j][k];
            a[j][k] = m;
            axpy(ORDER - k - 1, m, &a[k][k + 1], &a[j][k + 1]);
        }
    }
}

static void solve(double (*a)[ORDER], const int *pivot, double *x)
{
    for (int k = 0; k < ORDER; k++) {
        double t = x[pivot[k]];
        x[pivot[k]] = x[k];
        x[k] = t;
        axpy(ORDER - k - 1, t, &a[k][k + 1], &x[k + 1]);
    }
    for (int k = ORDER - 1; k >= 0; k--) {
        x[k] /= a[k][k];
        axpy(k, -x[k], a[k], x);
    }
}

/* The matrix by columns, and a right side whose solution is all ones. */
static void fill(double (*a)[ORDER], double *x, uint64_t seed)
{
    for (int i = 0; i < ORDER; i++)
        x[i] = 0;
    for (int j = 0; j < ORDER; j++)
        for (int i = 0; i < ORDER; i++) {
            a[j][i] = (double)(int64_t)bench_random(&seed) * 0x1p-63;
            x[i] += a[j][i];
        }
}

bool LINPACK(struct bench *b)
{
    double(*a)[ORDER] = malloc(sizeof(double[ORDER][ORDER])), x[ORDER], worst = 0;
    int pivot[ORDER];
    if (!a)
        return false;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        fill(a, x, n + 1);
        factor(a, pivot);
        solve(a, pivot, x);
        for (int i = 0; i < ORDER; i++)
            worst = fmax(worst, fabs(x[i] - 1));
        bench_fold(b, (uint64_t)pivot[ORDER / 2]);
    }
    bench_stop(b);
    bench_fold_double(b, x[0], 6);
    free(a);
    return worst < 1e-8;
}
