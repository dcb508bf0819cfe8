// SPDX-License-Identifier: GPL-2.0-or-later
/* Integers in SSE registers: multiplications, shuffles, saturation, comparisons and sums of differences over 4 KiB, checked by the same in C. */
#include "bench.h"
#include <emmintrin.h>

enum { BYTES = 4096 };

static uint64_t pass(const unsigned char *p, uint32_t key)
{
    __m128i sum = _mm_setzero_si128(), k = _mm_set1_epi32((int)key), zero = _mm_setzero_si128();
    for (int i = 0; i < BYTES; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
        __m128i even = _mm_mul_epu32(v, k), odd = _mm_mul_epu32(_mm_shuffle_epi32(v, 0xf5), k);
        __m128i sad = _mm_sad_epu8(_mm_adds_epu8(v, k), zero);
        __m128i below = _mm_srli_epi32(_mm_cmpgt_epi32(k, v), 31);
        sum = _mm_add_epi64(sum, _mm_xor_si128(even, _mm_slli_epi64(odd, 1)));
        sum = _mm_add_epi64(sum, _mm_add_epi64(sad, below));
    }
    uint64_t lanes[2];
    _mm_storeu_si128((__m128i *)lanes, sum);
    return lanes[0] + lanes[1];
}

static uint64_t load(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* One lane of 64 bits of `pass`. */
static uint64_t lane(const unsigned char *p, uint32_t key)
{
    uint64_t low = load(p, 4), high = load(p + 4, 4), sad = 0;
    for (int i = 0; i < 8; i++) {
        unsigned byte = p[i] + (key >> (8 * (i & 3)) & 255);
        sad += byte > 255 ? 255 : byte;
    }
    uint64_t below = ((int32_t)key > (int32_t)low) | (uint64_t)((int32_t)key > (int32_t)high) << 32;
    return ((low * key) ^ (high * key << 1)) + sad + below;
}

bool bench_sse_integer(struct bench *b)
{
    static unsigned char data[BYTES];
    uint64_t seed = 21, sum = 0, check = 0;
    for (int i = 0; i < BYTES; i++)
        data[i] = (unsigned char)bench_random(&seed);
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++)
        sum += pass(data, (uint32_t)(n & 15) * 0x01234567);
    bench_stop(b);
    for (unsigned key = 0; key < 16; key++) {
        uint64_t one = 0;
        for (int i = 0; i < BYTES; i += 8)
            one += lane(data + i, key * 0x01234567);
        check += one * (b->work / 16 + (key < b->work % 16));
    }
    bench_fold(b, sum);
    return sum == check;
}
