// SPDX-License-Identifier: GPL-2.0-or-later
/* Integer programs: a CoreMark-like mix (lists, matrices, a state machine, CRCs), primes, divisions, and chains through the carry flag. */
#include "bench.h"
#include <stdlib.h>
#include <string.h>

/* --- the mix --- */

enum { LIST_NODES = 256, MATRIX = 20, TEXT = 512 };

struct node {
    struct node *next;
    uint16_t key, data;
};

static uint16_t crc16(uint16_t crc, uint32_t value)
{
    for (int i = 0; i < 32; i++, value >>= 1) {
        bool carry = (crc ^ value) & 1;
        crc = (uint16_t)(crc >> 1) ^ (carry ? 0xa001 : 0);
    }
    return crc;
}

static struct node *merge(struct node *a, struct node *b)
{
    struct node head, *tail = &head;
    while (a && b) {
        struct node **least = a->key <= b->key ? &a : &b;
        tail = tail->next = *least;
        *least = (*least)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static struct node *sort(struct node *list)
{
    if (!list || !list->next)
        return list;
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct node *second = slow->next;
    slow->next = NULL;
    return merge(sort(list), sort(second));
}

static struct node *reverse(struct node *list)
{
    struct node *done = NULL;
    while (list) {
        struct node *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

/* Returns false when the list does not come out in order. */
static bool list_part(uint64_t *seed, uint16_t *crc)
{
    static struct node nodes[LIST_NODES];
    for (int i = 0; i < LIST_NODES; i++) {
        uint64_t r = bench_random(seed);
        nodes[i] = (struct node){i + 1 < LIST_NODES ? &nodes[i + 1] : NULL, (uint16_t)r, (uint16_t)(r >> 16)};
    }
    struct node *list = sort(reverse(&nodes[0]));
    int count = 0;
    for (struct node *n = list; n; n = n->next, count++) {
        if (n->next && n->next->key < n->key)
            return false;
        *crc = crc16(*crc, n->key | (uint32_t)n->data << 16);
    }
    return count == LIST_NODES;
}

static void matrix_part(uint64_t *seed, uint16_t *crc)
{
    static int32_t a[MATRIX][MATRIX], b[MATRIX][MATRIX];
    for (int i = 0; i < MATRIX; i++)
        for (int j = 0; j < MATRIX; j++) {
            uint64_t r = bench_random(seed);
            a[i][j] = (int16_t)r;
            b[i][j] = (int16_t)(r >> 16);
        }
    for (int i = 0; i < MATRIX; i++) {
        uint32_t row = 0;
        for (int j = 0; j < MATRIX; j++) {
            uint32_t sum = 0;
            for (int k = 0; k < MATRIX; k++)
                sum += (uint32_t)a[i][k] * (uint32_t)b[k][j];
            row ^= sum >> (j & 7);
        }
        *crc = crc16(*crc, row);
    }
}

enum state { START, SIGN, INTEGER, FRACTION, EXPONENT, BAD, STATES };

static enum state step(enum state s, char c)
{
    bool digit = c >= '0' && c <= '9';
    switch (s) {
    case START: return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? FRACTION : BAD;
    case SIGN: return digit ? INTEGER : c == '.' ? FRACTION : BAD;
    case INTEGER: return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : BAD;
    case FRACTION: return digit ? FRACTION : c == 'e' ? EXPONENT : BAD;
    case EXPONENT: return digit ? EXPONENT : BAD;
    default: return BAD;
    }
}

static void state_part(uint64_t *seed, uint16_t *crc)
{
    static const char letters[] = "0123456789+-.e,,";
    uint32_t ends[STATES] = {0};
    enum state s = START;
    for (int i = 0; i < TEXT; i++) {
        char c = letters[bench_random(seed) >> 60];
        if (c == ',') {
            ends[s]++;
            s = START;
        } else {
            s = step(s, c);
        }
    }
    for (int i = 0; i < STATES; i++)
        *crc = crc16(*crc, ends[i]);
}

bool bench_coremark(struct bench *b)
{
    uint16_t first = 0;
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        uint64_t seed = 0x1234567 + (n & 7);
        uint16_t crc = 0xffff;
        ok &= list_part(&seed, &crc);
        matrix_part(&seed, &crc);
        state_part(&seed, &crc);
        if (n == 0)
            first = crc;
        else if ((n & 7) == 0)
            ok &= crc == first;
        bench_fold(b, crc);
    }
    bench_stop(b);
    return ok;
}

/* --- primes: one unit is a sieve up to a million --- */

bool bench_sieve(struct bench *b)
{
    enum { LIMIT = 1000000, PRIMES = 78498 };
    unsigned char *composite = malloc(LIMIT + 1);
    bool ok = composite != NULL;
    bench_start(b);
    for (unsigned long n = 0; ok && n < b->work; n++) {
        uint64_t sum = 0;
        unsigned count = 0;
        memset(composite, 0, LIMIT + 1);
        for (unsigned i = 2; i <= LIMIT; i++) {
            if (composite[i])
                continue;
            count++;
            sum += i;
            for (uint64_t j = (uint64_t)i * i; j <= LIMIT; j += i)
                composite[j] = 1;
        }
        ok = count == PRIMES;
        bench_fold(b, sum);
    }
    bench_stop(b);
    free(composite);
    return ok;
}

bool bench_division(struct bench *b)
{
    uint64_t seed = 99, sum = 0;
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        uint64_t dividend = bench_random(&seed), divisor = (dividend >> (n & 31)) | 1;
        uint64_t quotient = (dividend ^ n) / divisor, remainder = (dividend ^ n) % divisor;
        int32_t low = (int32_t)dividend / ((int32_t)(divisor & 0xffff) + 1);
        ok &= quotient * divisor + remainder == (dividend ^ n) && remainder < divisor;
        sum += quotient + remainder + (uint32_t)low;
    }
    bench_stop(b);
    bench_fold(b, sum);
    return ok;
}

/* Adds a 512-bit number to another, then shifts the sum left through the carry flag: adc and rcl consume the flag of the instruction before. */
static void add_and_shift(uint64_t *a, const uint64_t *c)
{
    uint64_t t, carry;
    __asm__ volatile("xorl %k1, %k1\n\t"
                     ".irp i, 0, 8, 16, 24, 32, 40, 48, 56\n\t"
                     "movq \\i(%3), %0\n\t"
                     "adcq %0, \\i(%2)\n\t"
                     ".endr\n\t"
                     "adcq $0, %1\n\t"
                     "shrq $1, %1\n\t"
                     ".irp i, 0, 8, 16, 24, 32, 40, 48, 56\n\t"
                     "rclq $1, \\i(%2)\n\t"
                     ".endr\n\t"
                     "setc %b1"
                     : "=&r"(t), "=&q"(carry) : "r"(a), "r"(c) : "memory", "cc");
    a[0] ^= carry;
}

/* The same by the compiler's arithmetic. */
static void add_and_shift_plain(uint64_t *a, const uint64_t *c)
{
    uint64_t carry = 0;
    for (int i = 0; i < 8; i++) {
        unsigned __int128 sum = (unsigned __int128)a[i] + c[i] + carry;
        a[i] = (uint64_t)sum;
        carry = (uint64_t)(sum >> 64);
    }
    for (int i = 0; i < 8; i++) {
        uint64_t out = a[i] >> 63;
        a[i] = a[i] << 1 | carry;
        carry = out;
    }
    a[0] ^= carry;
}

bool bench_flags(struct bench *b)
{
    uint64_t a[8], plain[8], c[8], seed = 4711;
    for (int i = 0; i < 8; i++) {
        a[i] = plain[i] = bench_random(&seed);
        c[i] = bench_random(&seed);
    }
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++)
        add_and_shift(a, c);
    bench_stop(b);
    for (unsigned long n = 0; n < b->work; n++)
        add_and_shift_plain(plain, c);
    for (int i = 0; i < 8; i++)
        bench_fold(b, a[i]);
    return !memcmp(a, plain, sizeof a);
}
