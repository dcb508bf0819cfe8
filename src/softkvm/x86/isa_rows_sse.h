/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows of MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA and GFNI, each together with its VEX form where that differs only by the third operand
 * and the length. VEX-only instructions are in isa_rows_vex.h. Notation: isa_rows.h. Legacy SSE wants 16-byte operands aligned (SDM vol. 1,
 * 10.4), except where the row lacks ISA_ALIGN; VEX forms want that only for the explicitly aligned moves.
 */

/* ---- packed and scalar floating point, map 0F ---- */

/* m: ps, pd, ss, sd of a two-operand computation dst = dst OP src */
#define ISA_FP4(m, op)                                                                                                             \
    ISA_FP_PACKED(m, op)                                                                                                           \
    N(m##ss, "F3 0F " op " /r", "Vdq+rw,Wd", SSE, 0)                                                                               \
    N(m##sd, "F2 0F " op " /r", "Vdq+rw,Wq", SSE2, 0)                                                                              \
    N(v##m##ss, "VEX.LIG F3 0F " op " /r", "Vdq+w,Hdq,Wd", AVX, 0)                                                                 \
    N(v##m##sd, "VEX.LIG F2 0F " op " /r", "Vdq+w,Hdq,Wq", AVX, 0)
#define ISA_FP_PACKED(m, op)                                                                                                       \
    N(m##ps, "NP 0F " op " /r", "Vdq+rw,Wdq", SSE, ISA_ALIGN)                                                                      \
    N(m##pd, "66 0F " op " /r", "Vdq+rw,Wdq", SSE2, ISA_ALIGN)                                                                     \
    N(v##m##ps, "VEX NP 0F " op " /r", "Vx+w,Hx,Wx", AVX, 0)                                                                       \
    N(v##m##pd, "VEX 66 0F " op " /r", "Vx+w,Hx,Wx", AVX, 0)
ISA_FP4(add, "58")
ISA_FP4(mul, "59")
ISA_FP4(sub, "5C")
ISA_FP4(min, "5D")
ISA_FP4(div, "5E")
ISA_FP4(max, "5F")
ISA_FP_PACKED(and, "54")
ISA_FP_PACKED(andn, "55")
ISA_FP_PACKED(or, "56")
ISA_FP_PACKED(xor, "57")
ISA_FP_PACKED(unpckl, "14")
ISA_FP_PACKED(unpckh, "15")
#undef ISA_FP4
#undef ISA_FP_PACKED

/* m: packed forms have one source, scalar VEX forms take the upper elements from vvvv */
#define ISA_FP_UNARY(m, op)                                                                                                        \
    N(m##ps, "NP 0F " op " /r", "Vdq+w,Wdq", SSE, ISA_ALIGN)                                                                       \
    N(m##ss, "F3 0F " op " /r", "Vdq+rw,Wd", SSE, 0)                                                                               \
    N(v##m##ps, "VEX NP 0F " op " /r", "Vx+w,Wx", AVX, 0)                                                                          \
    N(v##m##ss, "VEX.LIG F3 0F " op " /r", "Vdq+w,Hdq,Wd", AVX, 0)
ISA_FP_UNARY(sqrt, "51")
ISA_FP_UNARY(rsqrt, "52")
ISA_FP_UNARY(rcp, "53")
#undef ISA_FP_UNARY
N(sqrtpd, "66 0F 51 /r", "Vdq+w,Wdq", SSE2, ISA_ALIGN)
N(sqrtsd, "F2 0F 51 /r", "Vdq+rw,Wq", SSE2, 0)
N(vsqrtpd, "VEX 66 0F 51 /r", "Vx+w,Wx", AVX, 0)
N(vsqrtsd, "VEX.LIG F2 0F 51 /r", "Vdq+w,Hdq,Wq", AVX, 0)

N(cmpps, "NP 0F C2 /r", "Vdq+rw,Wdq,Ib", SSE, ISA_ALIGN)
N(cmppd, "66 0F C2 /r", "Vdq+rw,Wdq,Ib", SSE2, ISA_ALIGN)
N(cmpss, "F3 0F C2 /r", "Vdq+rw,Wd,Ib", SSE, 0)
N(cmpsd, "F2 0F C2 /r", "Vdq+rw,Wq,Ib", SSE2, 0)
N(vcmpps, "VEX NP 0F C2 /r", "Vx+w,Hx,Wx,Ib", AVX, 0)
N(vcmppd, "VEX 66 0F C2 /r", "Vx+w,Hx,Wx,Ib", AVX, 0)
N(vcmpss, "VEX.LIG F3 0F C2 /r", "Vdq+w,Hdq,Wd,Ib", AVX, 0)
N(vcmpsd, "VEX.LIG F2 0F C2 /r", "Vdq+w,Hdq,Wq,Ib", AVX, 0)
N(shufps, "NP 0F C6 /r", "Vdq+rw,Wdq,Ib", SSE, ISA_ALIGN)
N(shufpd, "66 0F C6 /r", "Vdq+rw,Wdq,Ib", SSE2, ISA_ALIGN)
N(vshufps, "VEX NP 0F C6 /r", "Vx+w,Hx,Wx,Ib", AVX, 0)
N(vshufpd, "VEX 66 0F C6 /r", "Vx+w,Hx,Wx,Ib", AVX, 0)

/* m: compares that set ZF, PF, CF */
#define ISA_FP_FLAGS(m, op)                                                                                                        \
    N(m##ss, "NP 0F " op " /r", "Vdq,Wd", SSE, ISA_WFLAGS)                                                                         \
    N(m##sd, "66 0F " op " /r", "Vdq,Wq", SSE2, ISA_WFLAGS)                                                                        \
    N(v##m##ss, "VEX.LIG NP 0F " op " /r", "Vdq,Wd", AVX, ISA_WFLAGS)                                                              \
    N(v##m##sd, "VEX.LIG 66 0F " op " /r", "Vdq,Wq", AVX, ISA_WFLAGS)
ISA_FP_FLAGS(ucomi, "2E")
ISA_FP_FLAGS(comi, "2F")
#undef ISA_FP_FLAGS

#define ISA_HADD(m, op)                                                                                                            \
    N(m##pd, "66 0F " op " /r", "Vdq+rw,Wdq", SSE3, ISA_ALIGN)                                                                     \
    N(m##ps, "F2 0F " op " /r", "Vdq+rw,Wdq", SSE3, ISA_ALIGN)                                                                     \
    N(v##m##pd, "VEX 66 0F " op " /r", "Vx+w,Hx,Wx", AVX, 0)                                                                       \
    N(v##m##ps, "VEX F2 0F " op " /r", "Vx+w,Hx,Wx", AVX, 0)
ISA_HADD(hadd, "7C")
ISA_HADD(hsub, "7D")
ISA_HADD(addsub, "D0")
#undef ISA_HADD

/* ---- moves ---- */

/* m: full-width load and store; a: alignment flag of the instruction in both encodings */
#define ISA_MOV_FULL(m, pfx, ld, st, feat, a)                                                                                      \
    N(m, pfx " 0F " ld " /r", "Vdq+w,Wdq", feat, a)                                                                                \
    N(m, pfx " 0F " st " /r", "Wdq+w,Vdq", feat, a)                                                                                \
    N(v##m, "VEX " pfx " 0F " ld " /r", "Vx+w,Wx", AVX, a)                                                                         \
    N(v##m, "VEX " pfx " 0F " st " /r", "Wx+w,Vx", AVX, a)
ISA_MOV_FULL(movups, "NP", "10", "11", SSE, 0)
ISA_MOV_FULL(movupd, "66", "10", "11", SSE2, 0)
ISA_MOV_FULL(movaps, "NP", "28", "29", SSE, ISA_ALIGN)
ISA_MOV_FULL(movapd, "66", "28", "29", SSE2, ISA_ALIGN)
ISA_MOV_FULL(movdqa, "66", "6F", "7F", SSE2, ISA_ALIGN)
ISA_MOV_FULL(movdqu, "F3", "6F", "7F", SSE2, 0)
#undef ISA_MOV_FULL

N(movss, "F3 0F 10 /r", "Vdq+rw,Udq", SSE, 0)
N(movss, "F3 0F 10 /r", "Vdq+w,Md", SSE, 0)
N(movss, "F3 0F 11 /r", "Udq+rw,Vdq", SSE, 0)
N(movss, "F3 0F 11 /r", "Md+w,Vdq", SSE, 0)
N(movsd, "F2 0F 10 /r", "Vdq+rw,Udq", SSE2, 0)
N(movsd, "F2 0F 10 /r", "Vdq+w,Mq", SSE2, 0)
N(movsd, "F2 0F 11 /r", "Udq+rw,Vdq", SSE2, 0)
N(movsd, "F2 0F 11 /r", "Mq+w,Vdq", SSE2, 0)
N(vmovss, "VEX.LIG F3 0F 10 /r", "Vdq+w,Hdq,Udq", AVX, 0)
N(vmovss, "VEX.LIG F3 0F 10 /r", "Vdq+w,Md", AVX, 0)
N(vmovss, "VEX.LIG F3 0F 11 /r", "Udq+w,Hdq,Vdq", AVX, 0)
N(vmovss, "VEX.LIG F3 0F 11 /r", "Md+w,Vdq", AVX, 0)
N(vmovsd, "VEX.LIG F2 0F 10 /r", "Vdq+w,Hdq,Udq", AVX, 0)
N(vmovsd, "VEX.LIG F2 0F 10 /r", "Vdq+w,Mq", AVX, 0)
N(vmovsd, "VEX.LIG F2 0F 11 /r", "Udq+w,Hdq,Vdq", AVX, 0)
N(vmovsd, "VEX.LIG F2 0F 11 /r", "Mq+w,Vdq", AVX, 0)

N(movhlps, "NP 0F 12 /r", "Vdq+rw,Udq", SSE, 0)
N(movlps, "NP 0F 12 /r", "Vdq+rw,Mq", SSE, 0)
N(movlps, "NP 0F 13 /r", "Mq+w,Vdq", SSE, 0)
N(movlpd, "66 0F 12 /r", "Vdq+rw,Mq", SSE2, 0)
N(movlpd, "66 0F 13 /r", "Mq+w,Vdq", SSE2, 0)
N(movlhps, "NP 0F 16 /r", "Vdq+rw,Udq", SSE, 0)
N(movhps, "NP 0F 16 /r", "Vdq+rw,Mq", SSE, 0)
N(movhps, "NP 0F 17 /r", "Mq+w,Vdq", SSE, 0)
N(movhpd, "66 0F 16 /r", "Vdq+rw,Mq", SSE2, 0)
N(movhpd, "66 0F 17 /r", "Mq+w,Vdq", SSE2, 0)
N(vmovhlps, "VEX.128 NP 0F 12 /r", "Vdq+w,Hdq,Udq", AVX, 0)
N(vmovlps, "VEX.128 NP 0F 12 /r", "Vdq+w,Hdq,Mq", AVX, 0)
N(vmovlps, "VEX.128 NP 0F 13 /r", "Mq+w,Vdq", AVX, 0)
N(vmovlpd, "VEX.128 66 0F 12 /r", "Vdq+w,Hdq,Mq", AVX, 0)
N(vmovlpd, "VEX.128 66 0F 13 /r", "Mq+w,Vdq", AVX, 0)
N(vmovlhps, "VEX.128 NP 0F 16 /r", "Vdq+w,Hdq,Udq", AVX, 0)
N(vmovhps, "VEX.128 NP 0F 16 /r", "Vdq+w,Hdq,Mq", AVX, 0)
N(vmovhps, "VEX.128 NP 0F 17 /r", "Mq+w,Vdq", AVX, 0)
N(vmovhpd, "VEX.128 66 0F 16 /r", "Vdq+w,Hdq,Mq", AVX, 0)
N(vmovhpd, "VEX.128 66 0F 17 /r", "Mq+w,Vdq", AVX, 0)
N(movsldup, "F3 0F 12 /r", "Vdq+w,Wdq", SSE3, ISA_ALIGN)
N(movshdup, "F3 0F 16 /r", "Vdq+w,Wdq", SSE3, ISA_ALIGN)
N(movddup, "F2 0F 12 /r", "Vdq+w,Wq", SSE3, 0)
N(vmovsldup, "VEX F3 0F 12 /r", "Vx+w,Wx", AVX, 0)
N(vmovshdup, "VEX F3 0F 16 /r", "Vx+w,Wx", AVX, 0)
N(vmovddup, "VEX.128 F2 0F 12 /r", "Vdq+w,Wq", AVX, 0)
N(vmovddup, "VEX.256 F2 0F 12 /r", "Vqq+w,Wqq", AVX, 0)

N(movntps, "NP 0F 2B /r", "Mdq+w,Vdq", SSE, ISA_ALIGN)
N(movntpd, "66 0F 2B /r", "Mdq+w,Vdq", SSE2, ISA_ALIGN)
N(movntdq, "66 0F E7 /r", "Mdq+w,Vdq", SSE2, ISA_ALIGN)
N(movntdqa, "66 0F 38 2A /r", "Vdq+w,Mdq", SSE41, ISA_ALIGN)
N(vmovntps, "VEX NP 0F 2B /r", "Mx+w,Vx", AVX, ISA_ALIGN)
N(vmovntpd, "VEX 66 0F 2B /r", "Mx+w,Vx", AVX, ISA_ALIGN)
N(vmovntdq, "VEX 66 0F E7 /r", "Mx+w,Vx", AVX, ISA_ALIGN)
N(vmovntdqa, "VEX.128 66 0F 38 2A /r", "Vdq+w,Mdq", AVX, ISA_ALIGN)
N(vmovntdqa, "VEX.256 66 0F 38 2A /r", "Vqq+w,Mqq", AVX2, ISA_ALIGN)
N(movntq, "NP 0F E7 /r", "Mq+w,Pq", SSE, 0)
N(lddqu, "F2 0F F0 /r", "Vdq+w,Mdq", SSE3, 0)
N(vlddqu, "VEX F2 0F F0 /r", "Vx+w,Mx", AVX, 0)

N(movmskps, "NP 0F 50 /r", "Gy+w,Udq", SSE, 0)
N(movmskpd, "66 0F 50 /r", "Gy+w,Udq", SSE2, 0)
N(vmovmskps, "VEX NP 0F 50 /r", "Gd+w,Ux", AVX, 0)
N(vmovmskpd, "VEX 66 0F 50 /r", "Gd+w,Ux", AVX, 0)
N(pmovmskb, "NP 0F D7 /r", "Gd+w,Nq", SSE, 0)
N(pmovmskb, "66 0F D7 /r", "Gd+w,Udq", SSE2, 0)
N(vpmovmskb, "VEX.128 66 0F D7 /r", "Gd+w,Udq", AVX, 0)
N(vpmovmskb, "VEX.256 66 0F D7 /r", "Gd+w,Uqq", AVX2, 0)

/* Between general and vector registers. W selects 64 bits in 64-bit code only. */
N(movq, "NP W1 0F 6E /r", "Pq+w,Eq", MMX, ISA_ONLY64)
N(movd, "NP 0F 6E /r", "Pq+w,Ed", MMX, 0)
N(movq, "NP W1 0F 7E /r", "Eq+w,Pq", MMX, ISA_ONLY64)
N(movd, "NP 0F 7E /r", "Ed+w,Pq", MMX, 0)
N(movq, "66 W1 0F 6E /r", "Vdq+w,Eq", SSE2, ISA_ONLY64)
N(movd, "66 0F 6E /r", "Vdq+w,Ed", SSE2, 0)
N(movq, "66 W1 0F 7E /r", "Eq+w,Vdq", SSE2, ISA_ONLY64)
N(movd, "66 0F 7E /r", "Ed+w,Vdq", SSE2, 0)
N(vmovq, "VEX.128 66 W1 0F 6E /r", "Vdq+w,Eq", AVX, ISA_ONLY64)
N(vmovd, "VEX.128 66 0F 6E /r", "Vdq+w,Ed", AVX, 0)
N(vmovq, "VEX.128 66 W1 0F 7E /r", "Eq+w,Vdq", AVX, ISA_ONLY64)
N(vmovd, "VEX.128 66 0F 7E /r", "Ed+w,Vdq", AVX, 0)
N(movq, "NP 0F 6F /r", "Pq+w,Qq", MMX, 0)
N(movq, "NP 0F 7F /r", "Qq+w,Pq", MMX, 0)
N(movq, "F3 0F 7E /r", "Vdq+w,Wq", SSE2, 0)
N(movq, "66 0F D6 /r", "Wq+w,Vdq", SSE2, 0)
N(vmovq, "VEX.128 F3 0F 7E /r", "Vdq+w,Wq", AVX, 0)
N(vmovq, "VEX.128 66 0F D6 /r", "Wq+w,Vdq", AVX, 0)
N(movq2dq, "F3 0F D6 /r", "Vdq+w,Nq", SSE2, 0)
N(movdq2q, "F2 0F D6 /r", "Pq+w,Udq", SSE2, 0)
N(emms, "NP 0F 77", "", MMX, 0)
/* The byte mask is operand 1, the target is at seg:rDI */
V(maskmovq, "NP 0F F7 /r", "Pq,Nq", SSE, 0)
V(maskmovdqu, "66 0F F7 /r", "Vdq,Udq", SSE2, 0)
V(vmaskmovdqu, "VEX.128 66 0F F7 /r", "Vdq,Udq", AVX, 0)

/* ---- conversions ---- */
N(cvtpi2ps, "NP 0F 2A /r", "Vdq+rw,Qq", SSE, 0)
N(cvtpi2pd, "66 0F 2A /r", "Vdq+w,Qq", SSE2, 0)
N(cvtsi2ss, "F3 0F 2A /r", "Vdq+rw,Ey", SSE, 0)
N(cvtsi2sd, "F2 0F 2A /r", "Vdq+rw,Ey", SSE2, 0)
N(vcvtsi2ss, "VEX.LIG F3 0F 2A /r", "Vdq+w,Hdq,Ey", AVX, 0)
N(vcvtsi2sd, "VEX.LIG F2 0F 2A /r", "Vdq+w,Hdq,Ey", AVX, 0)
#define ISA_CVT_INT(t, op)                                                                                                         \
    N(cvt##t##ps2pi, "NP 0F " op " /r", "Pq+w,Wq", SSE, 0)                                                                         \
    N(cvt##t##pd2pi, "66 0F " op " /r", "Pq+w,Wdq", SSE2, ISA_ALIGN)                                                               \
    N(cvt##t##ss2si, "F3 0F " op " /r", "Gy+w,Wd", SSE, 0)                                                                         \
    N(cvt##t##sd2si, "F2 0F " op " /r", "Gy+w,Wq", SSE2, 0)                                                                        \
    N(vcvt##t##ss2si, "VEX.LIG F3 0F " op " /r", "Gy+w,Wd", AVX, 0)                                                                \
    N(vcvt##t##sd2si, "VEX.LIG F2 0F " op " /r", "Gy+w,Wq", AVX, 0)
ISA_CVT_INT(t, "2C")
ISA_CVT_INT(, "2D")
#undef ISA_CVT_INT
N(cvtps2pd, "NP 0F 5A /r", "Vdq+w,Wq", SSE2, 0)
N(cvtpd2ps, "66 0F 5A /r", "Vdq+w,Wdq", SSE2, ISA_ALIGN)
N(cvtss2sd, "F3 0F 5A /r", "Vdq+rw,Wd", SSE2, 0)
N(cvtsd2ss, "F2 0F 5A /r", "Vdq+rw,Wq", SSE2, 0)
N(vcvtps2pd, "VEX NP 0F 5A /r", "Vx+w,Wh", AVX, 0)
N(vcvtpd2ps, "VEX 66 0F 5A /r", "Vdq+w,Wx", AVX, 0)
N(vcvtss2sd, "VEX.LIG F3 0F 5A /r", "Vdq+w,Hdq,Wd", AVX, 0)
N(vcvtsd2ss, "VEX.LIG F2 0F 5A /r", "Vdq+w,Hdq,Wq", AVX, 0)
#define ISA_CVT_FULL(m, pfx, op)                                                                                                   \
    N(m, pfx " 0F " op " /r", "Vdq+w,Wdq", SSE2, ISA_ALIGN)                                                                        \
    N(v##m, "VEX " pfx " 0F " op " /r", "Vx+w,Wx", AVX, 0)
ISA_CVT_FULL(cvtdq2ps, "NP", "5B")
ISA_CVT_FULL(cvtps2dq, "66", "5B")
ISA_CVT_FULL(cvttps2dq, "F3", "5B")
#undef ISA_CVT_FULL
N(cvttpd2dq, "66 0F E6 /r", "Vdq+w,Wdq", SSE2, ISA_ALIGN)
N(cvtpd2dq, "F2 0F E6 /r", "Vdq+w,Wdq", SSE2, ISA_ALIGN)
N(cvtdq2pd, "F3 0F E6 /r", "Vdq+w,Wq", SSE2, 0)
N(vcvttpd2dq, "VEX 66 0F E6 /r", "Vdq+w,Wx", AVX, 0)
N(vcvtpd2dq, "VEX F2 0F E6 /r", "Vdq+w,Wx", AVX, 0)
N(vcvtdq2pd, "VEX F3 0F E6 /r", "Vx+w,Wh", AVX, 0)

/* ---- packed integers: MMX, SSE and both VEX lengths of one opcode ---- */

/* XMM and its VEX forms only */
#define ISA_INT_XMM(m, map, op, feat)                                                                                              \
    N(m, "66 " map " " op " /r", "Vdq+rw,Wdq", feat, ISA_ALIGN)                                                                    \
    N(v##m, "VEX.128 66 " map " " op " /r", "Vdq+w,Hdq,Wdq", AVX, 0)                                                               \
    N(v##m, "VEX.256 66 " map " " op " /r", "Vqq+w,Hqq,Wqq", AVX2, 0)
/* with an MMX form of feature mfeat */
#define ISA_INT(m, map, op, mfeat, feat)                                                                                           \
    N(m, "NP " map " " op " /r", "Pq+rw,Qq", mfeat, 0)                                                                             \
    ISA_INT_XMM(m, map, op, feat)
/* the low unpacks read only half of an MMX memory operand */
#define ISA_UNPACK_LOW(m, op)                                                                                                      \
    N(m, "NP 0F " op " /r", "Pq+rw,Qd", MMX, 0)                                                                                    \
    ISA_INT_XMM(m, "0F", op, SSE2)
/* shifts: the count is a whole XMM operand, also for YMM; or an immediate in the register form of a group */
#define ISA_INT_SHIFT(m, op, gop, ext)                                                                                             \
    N(m, "NP 0F " op " /r", "Pq+rw,Qq", MMX, 0)                                                                                    \
    N(m, "66 0F " op " /r", "Vdq+rw,Wdq", SSE2, ISA_ALIGN)                                                                         \
    N(v##m, "VEX.128 66 0F " op " /r", "Vdq+w,Hdq,Wdq", AVX, 0)                                                                    \
    N(v##m, "VEX.256 66 0F " op " /r", "Vqq+w,Hqq,Wdq", AVX2, 0)                                                                   \
    N(m, "NP 0F " gop " /" ext, "Nq+rw,Ib", MMX, 0)                                                                                \
    ISA_INT_SHIFT_IMM(m, gop, ext)
#define ISA_INT_SHIFT_IMM(m, gop, ext)                                                                                             \
    N(m, "66 0F " gop " /" ext, "Udq+rw,Ib", SSE2, 0)                                                                              \
    N(v##m, "VEX.128 66 0F " gop " /" ext, "Hdq+w,Udq,Ib", AVX, 0)                                                                 \
    N(v##m, "VEX.256 66 0F " gop " /" ext, "Hqq+w,Uqq,Ib", AVX2, 0)

ISA_UNPACK_LOW(punpcklbw, "60")
ISA_UNPACK_LOW(punpcklwd, "61")
ISA_UNPACK_LOW(punpckldq, "62")
ISA_INT(packsswb, "0F", "63", MMX, SSE2)
ISA_INT(pcmpgtb, "0F", "64", MMX, SSE2)
ISA_INT(pcmpgtw, "0F", "65", MMX, SSE2)
ISA_INT(pcmpgtd, "0F", "66", MMX, SSE2)
ISA_INT(packuswb, "0F", "67", MMX, SSE2)
ISA_INT(punpckhbw, "0F", "68", MMX, SSE2)
ISA_INT(punpckhwd, "0F", "69", MMX, SSE2)
ISA_INT(punpckhdq, "0F", "6A", MMX, SSE2)
ISA_INT(packssdw, "0F", "6B", MMX, SSE2)
ISA_INT_XMM(punpcklqdq, "0F", "6C", SSE2)
ISA_INT_XMM(punpckhqdq, "0F", "6D", SSE2)
ISA_INT(pcmpeqb, "0F", "74", MMX, SSE2)
ISA_INT(pcmpeqw, "0F", "75", MMX, SSE2)
ISA_INT(pcmpeqd, "0F", "76", MMX, SSE2)
ISA_INT_SHIFT(psrlw, "D1", "71", "2")
ISA_INT_SHIFT(psrld, "D2", "72", "2")
ISA_INT_SHIFT(psrlq, "D3", "73", "2")
ISA_INT_SHIFT(psraw, "E1", "71", "4")
ISA_INT_SHIFT(psrad, "E2", "72", "4")
ISA_INT_SHIFT(psllw, "F1", "71", "6")
ISA_INT_SHIFT(pslld, "F2", "72", "6")
ISA_INT_SHIFT(psllq, "F3", "73", "6")
ISA_INT_SHIFT_IMM(psrldq, "73", "3")
ISA_INT_SHIFT_IMM(pslldq, "73", "7")
ISA_INT(paddq, "0F", "D4", SSE2, SSE2)
ISA_INT(pmullw, "0F", "D5", MMX, SSE2)
ISA_INT(psubusb, "0F", "D8", MMX, SSE2)
ISA_INT(psubusw, "0F", "D9", MMX, SSE2)
ISA_INT(pminub, "0F", "DA", SSE, SSE2)
ISA_INT(pand, "0F", "DB", MMX, SSE2)
ISA_INT(paddusb, "0F", "DC", MMX, SSE2)
ISA_INT(paddusw, "0F", "DD", MMX, SSE2)
ISA_INT(pmaxub, "0F", "DE", SSE, SSE2)
ISA_INT(pandn, "0F", "DF", MMX, SSE2)
ISA_INT(pavgb, "0F", "E0", SSE, SSE2)
ISA_INT(pavgw, "0F", "E3", SSE, SSE2)
ISA_INT(pmulhuw, "0F", "E4", SSE, SSE2)
ISA_INT(pmulhw, "0F", "E5", MMX, SSE2)
ISA_INT(psubsb, "0F", "E8", MMX, SSE2)
ISA_INT(psubsw, "0F", "E9", MMX, SSE2)
ISA_INT(pminsw, "0F", "EA", SSE, SSE2)
ISA_INT(por, "0F", "EB", MMX, SSE2)
ISA_INT(paddsb, "0F", "EC", MMX, SSE2)
ISA_INT(paddsw, "0F", "ED", MMX, SSE2)
ISA_INT(pmaxsw, "0F", "EE", SSE, SSE2)
ISA_INT(pxor, "0F", "EF", MMX, SSE2)
ISA_INT(pmuludq, "0F", "F4", SSE2, SSE2)
ISA_INT(pmaddwd, "0F", "F5", MMX, SSE2)
ISA_INT(psadbw, "0F", "F6", SSE, SSE2)
ISA_INT(psubb, "0F", "F8", MMX, SSE2)
ISA_INT(psubw, "0F", "F9", MMX, SSE2)
ISA_INT(psubd, "0F", "FA", MMX, SSE2)
ISA_INT(psubq, "0F", "FB", SSE2, SSE2)
ISA_INT(paddb, "0F", "FC", MMX, SSE2)
ISA_INT(paddw, "0F", "FD", MMX, SSE2)
ISA_INT(paddd, "0F", "FE", MMX, SSE2)

/* SSSE3 and SSE4, map 0F 38 */
ISA_INT(pshufb, "0F 38", "00", SSSE3, SSSE3)
ISA_INT(phaddw, "0F 38", "01", SSSE3, SSSE3)
ISA_INT(phaddd, "0F 38", "02", SSSE3, SSSE3)
ISA_INT(phaddsw, "0F 38", "03", SSSE3, SSSE3)
ISA_INT(pmaddubsw, "0F 38", "04", SSSE3, SSSE3)
ISA_INT(phsubw, "0F 38", "05", SSSE3, SSSE3)
ISA_INT(phsubd, "0F 38", "06", SSSE3, SSSE3)
ISA_INT(phsubsw, "0F 38", "07", SSSE3, SSSE3)
ISA_INT(psignb, "0F 38", "08", SSSE3, SSSE3)
ISA_INT(psignw, "0F 38", "09", SSSE3, SSSE3)
ISA_INT(psignd, "0F 38", "0A", SSSE3, SSSE3)
ISA_INT(pmulhrsw, "0F 38", "0B", SSSE3, SSSE3)
ISA_INT_XMM(pmuldq, "0F 38", "28", SSE41)
ISA_INT_XMM(pcmpeqq, "0F 38", "29", SSE41)
ISA_INT_XMM(packusdw, "0F 38", "2B", SSE41)
ISA_INT_XMM(pcmpgtq, "0F 38", "37", SSE42)
ISA_INT_XMM(pminsb, "0F 38", "38", SSE41)
ISA_INT_XMM(pminsd, "0F 38", "39", SSE41)
ISA_INT_XMM(pminuw, "0F 38", "3A", SSE41)
ISA_INT_XMM(pminud, "0F 38", "3B", SSE41)
ISA_INT_XMM(pmaxsb, "0F 38", "3C", SSE41)
ISA_INT_XMM(pmaxsd, "0F 38", "3D", SSE41)
ISA_INT_XMM(pmaxuw, "0F 38", "3E", SSE41)
ISA_INT_XMM(pmaxud, "0F 38", "3F", SSE41)
ISA_INT_XMM(pmulld, "0F 38", "40", SSE41)
#undef ISA_INT
#undef ISA_INT_XMM
#undef ISA_UNPACK_LOW
#undef ISA_INT_SHIFT
#undef ISA_INT_SHIFT_IMM

#define ISA_PABS(m, op)                                                                                                            \
    N(m, "NP 0F 38 " op " /r", "Pq+w,Qq", SSSE3, 0)                                                                                \
    N(m, "66 0F 38 " op " /r", "Vdq+w,Wdq", SSSE3, ISA_ALIGN)                                                                      \
    N(v##m, "VEX.128 66 0F 38 " op " /r", "Vdq+w,Wdq", AVX, 0)                                                                     \
    N(v##m, "VEX.256 66 0F 38 " op " /r", "Vqq+w,Wqq", AVX2, 0)
ISA_PABS(pabsb, "1C")
ISA_PABS(pabsw, "1D")
ISA_PABS(pabsd, "1E")
#undef ISA_PABS

/* Sign and zero extension; s, s2: source sizes for XMM and YMM destinations */
#define ISA_PMOVX(m, op, s, s2)                                                                                                    \
    N(m, "66 0F 38 " op " /r", "Vdq+w,W" s, SSE41, 0)                                                                              \
    N(v##m, "VEX.128 66 0F 38 " op " /r", "Vdq+w,W" s, AVX, 0)                                                                     \
    N(v##m, "VEX.256 66 0F 38 " op " /r", "Vqq+w,W" s2, AVX2, 0)
ISA_PMOVX(pmovsxbw, "20", "q", "dq")
ISA_PMOVX(pmovsxbd, "21", "d", "q")
ISA_PMOVX(pmovsxbq, "22", "w", "d")
ISA_PMOVX(pmovsxwd, "23", "q", "dq")
ISA_PMOVX(pmovsxwq, "24", "d", "q")
ISA_PMOVX(pmovsxdq, "25", "q", "dq")
ISA_PMOVX(pmovzxbw, "30", "q", "dq")
ISA_PMOVX(pmovzxbd, "31", "d", "q")
ISA_PMOVX(pmovzxbq, "32", "w", "d")
ISA_PMOVX(pmovzxwd, "33", "q", "dq")
ISA_PMOVX(pmovzxwq, "34", "d", "q")
ISA_PMOVX(pmovzxdq, "35", "q", "dq")
#undef ISA_PMOVX

N(phminposuw, "66 0F 38 41 /r", "Vdq+w,Wdq", SSE41, ISA_ALIGN)
N(vphminposuw, "VEX.128 66 0F 38 41 /r", "Vdq+w,Wdq", AVX, 0)
/* implicit xmm0 is the mask */
N(pblendvb, "66 0F 38 10 /r", "Vdq+rw,Wdq", SSE41, ISA_ALIGN)
N(blendvps, "66 0F 38 14 /r", "Vdq+rw,Wdq", SSE41, ISA_ALIGN)
N(blendvpd, "66 0F 38 15 /r", "Vdq+rw,Wdq", SSE41, ISA_ALIGN)
N(ptest, "66 0F 38 17 /r", "Vdq,Wdq", SSE41, ISA_ALIGN | ISA_WFLAGS)
N(vptest, "VEX 66 0F 38 17 /r", "Vx,Wx", AVX, ISA_WFLAGS)

/* ---- shuffles, inserts, extracts with an immediate ---- */
N(pshufw, "NP 0F 70 /r", "Pq+w,Qq,Ib", SSE, 0)
#define ISA_PSHUF(m, pfx)                                                                                                          \
    N(m, pfx " 0F 70 /r", "Vdq+w,Wdq,Ib", SSE2, ISA_ALIGN)                                                                         \
    N(v##m, "VEX.128 " pfx " 0F 70 /r", "Vdq+w,Wdq,Ib", AVX, 0)                                                                    \
    N(v##m, "VEX.256 " pfx " 0F 70 /r", "Vqq+w,Wqq,Ib", AVX2, 0)
ISA_PSHUF(pshufd, "66")
ISA_PSHUF(pshufhw, "F3")
ISA_PSHUF(pshuflw, "F2")
#undef ISA_PSHUF
N(pinsrw, "NP 0F C4 /r", "Pq+rw,Ed/w,Ib", SSE, 0)
N(pinsrw, "66 0F C4 /r", "Vdq+rw,Ed/w,Ib", SSE2, 0)
N(vpinsrw, "VEX.128 66 0F C4 /r", "Vdq+w,Hdq,Ed/w,Ib", AVX, 0)
N(pextrw, "NP 0F C5 /r", "Gd+w,Nq,Ib", SSE, 0)
N(pextrw, "66 0F C5 /r", "Gd+w,Udq,Ib", SSE2, 0)
N(vpextrw, "VEX.128 66 0F C5 /r", "Gd+w,Udq,Ib", AVX, 0)
N(pextrb, "66 0F 3A 14 /r", "Ed/b+w,Vdq,Ib", SSE41, 0)
N(pextrw, "66 0F 3A 15 /r", "Ed/w+w,Vdq,Ib", SSE41, 0)
N(pextrq, "66 W1 0F 3A 16 /r", "Eq+w,Vdq,Ib", SSE41, ISA_ONLY64)
N(pextrd, "66 0F 3A 16 /r", "Ed+w,Vdq,Ib", SSE41, 0)
N(extractps, "66 0F 3A 17 /r", "Ed+w,Vdq,Ib", SSE41, 0)
N(vpextrb, "VEX.128 66 0F 3A 14 /r", "Ed/b+w,Vdq,Ib", AVX, 0)
N(vpextrw, "VEX.128 66 0F 3A 15 /r", "Ed/w+w,Vdq,Ib", AVX, 0)
N(vpextrq, "VEX.128 66 W1 0F 3A 16 /r", "Eq+w,Vdq,Ib", AVX, ISA_ONLY64)
N(vpextrd, "VEX.128 66 0F 3A 16 /r", "Ed+w,Vdq,Ib", AVX, 0)
N(vextractps, "VEX.128 66 0F 3A 17 /r", "Ed+w,Vdq,Ib", AVX, 0)
N(pinsrb, "66 0F 3A 20 /r", "Vdq+rw,Ed/b,Ib", SSE41, 0)
N(insertps, "66 0F 3A 21 /r", "Vdq+rw,Wd,Ib", SSE41, 0)
N(pinsrq, "66 W1 0F 3A 22 /r", "Vdq+rw,Eq,Ib", SSE41, ISA_ONLY64)
N(pinsrd, "66 0F 3A 22 /r", "Vdq+rw,Ed,Ib", SSE41, 0)
N(vpinsrb, "VEX.128 66 0F 3A 20 /r", "Vdq+w,Hdq,Ed/b,Ib", AVX, 0)
N(vinsertps, "VEX.128 66 0F 3A 21 /r", "Vdq+w,Hdq,Wd,Ib", AVX, 0)
N(vpinsrq, "VEX.128 66 W1 0F 3A 22 /r", "Vdq+w,Hdq,Eq,Ib", AVX, ISA_ONLY64)
N(vpinsrd, "VEX.128 66 0F 3A 22 /r", "Vdq+w,Hdq,Ed,Ib", AVX, 0)

N(roundps, "66 0F 3A 08 /r", "Vdq+w,Wdq,Ib", SSE41, ISA_ALIGN)
N(roundpd, "66 0F 3A 09 /r", "Vdq+w,Wdq,Ib", SSE41, ISA_ALIGN)
N(roundss, "66 0F 3A 0A /r", "Vdq+rw,Wd,Ib", SSE41, 0)
N(roundsd, "66 0F 3A 0B /r", "Vdq+rw,Wq,Ib", SSE41, 0)
N(vroundps, "VEX 66 0F 3A 08 /r", "Vx+w,Wx,Ib", AVX, 0)
N(vroundpd, "VEX 66 0F 3A 09 /r", "Vx+w,Wx,Ib", AVX, 0)
N(vroundss, "VEX.LIG 66 0F 3A 0A /r", "Vdq+w,Hdq,Wd,Ib", AVX, 0)
N(vroundsd, "VEX.LIG 66 0F 3A 0B /r", "Vdq+w,Hdq,Wq,Ib", AVX, 0)
N(palignr, "NP 0F 3A 0F /r", "Pq+rw,Qq,Ib", SSSE3, 0)

/* three operands and an immediate; f256: the feature of the YMM form */
#define ISA_IMM3(m, op, feat, f256)                                                                                                \
    N(m, "66 0F 3A " op " /r", "Vdq+rw,Wdq,Ib", feat, ISA_ALIGN)                                                                   \
    N(v##m, "VEX.128 66 0F 3A " op " /r", "Vdq+w,Hdq,Wdq,Ib", AVX, 0)                                                              \
    N(v##m, "VEX.256 66 0F 3A " op " /r", "Vqq+w,Hqq,Wqq,Ib", f256, 0)
ISA_IMM3(blendps, "0C", SSE41, AVX)
ISA_IMM3(blendpd, "0D", SSE41, AVX)
ISA_IMM3(pblendw, "0E", SSE41, AVX2)
ISA_IMM3(palignr, "0F", SSSE3, AVX2)
ISA_IMM3(dpps, "40", SSE41, AVX)
ISA_IMM3(mpsadbw, "42", SSE41, AVX2)
ISA_IMM3(pclmulqdq, "44", PCLMUL, VPCLMUL)
#undef ISA_IMM3
N(dppd, "66 0F 3A 41 /r", "Vdq+rw,Wdq,Ib", SSE41, ISA_ALIGN)
N(vdppd, "VEX.128 66 0F 3A 41 /r", "Vdq+w,Hdq,Wdq,Ib", AVX, 0)

/* String compares: the E forms take lengths from rAX and rDX (64 bits with W); I forms write ECX, M forms xmm0. No alignment. */
N(pcmpestrm, "66 0F 3A 60 /r", "Vdq,Wdq,Ib", SSE42, ISA_WFLAGS)
N(pcmpestri, "66 0F 3A 61 /r", "Vdq,Wdq,Ib", SSE42, ISA_WFLAGS)
N(pcmpistrm, "66 0F 3A 62 /r", "Vdq,Wdq,Ib", SSE42, ISA_WFLAGS)
N(pcmpistri, "66 0F 3A 63 /r", "Vdq,Wdq,Ib", SSE42, ISA_WFLAGS)
N(vpcmpestrm, "VEX.128 66 0F 3A 60 /r", "Vdq,Wdq,Ib", AVX, ISA_WFLAGS)
N(vpcmpestri, "VEX.128 66 0F 3A 61 /r", "Vdq,Wdq,Ib", AVX, ISA_WFLAGS)
N(vpcmpistrm, "VEX.128 66 0F 3A 62 /r", "Vdq,Wdq,Ib", AVX, ISA_WFLAGS)
N(vpcmpistri, "VEX.128 66 0F 3A 63 /r", "Vdq,Wdq,Ib", AVX, ISA_WFLAGS)

/* ---- AES, SHA, GFNI ---- */
#define ISA_AES(m, op)                                                                                                             \
    N(m, "66 0F 38 " op " /r", "Vdq+rw,Wdq", AES, ISA_ALIGN)                                                                       \
    N(v##m, "VEX.128 66 0F 38 " op " /r", "Vdq+w,Hdq,Wdq", AES, 0)                                                                 \
    N(v##m, "VEX.256 66 0F 38 " op " /r", "Vqq+w,Hqq,Wqq", VAES, 0)
ISA_AES(aesenc, "DC")
ISA_AES(aesenclast, "DD")
ISA_AES(aesdec, "DE")
ISA_AES(aesdeclast, "DF")
#undef ISA_AES
N(aesimc, "66 0F 38 DB /r", "Vdq+w,Wdq", AES, ISA_ALIGN)
N(vaesimc, "VEX.128 66 0F 38 DB /r", "Vdq+w,Wdq", AES, 0)
N(aeskeygenassist, "66 0F 3A DF /r", "Vdq+w,Wdq,Ib", AES, ISA_ALIGN)
N(vaeskeygenassist, "VEX.128 66 0F 3A DF /r", "Vdq+w,Wdq,Ib", AES, 0)
N(sha1nexte, "NP 0F 38 C8 /r", "Vdq+rw,Wdq", SHA, ISA_ALIGN)
N(sha1msg1, "NP 0F 38 C9 /r", "Vdq+rw,Wdq", SHA, ISA_ALIGN)
N(sha1msg2, "NP 0F 38 CA /r", "Vdq+rw,Wdq", SHA, ISA_ALIGN)
/* implicit xmm0 holds the round keys */
N(sha256rnds2, "NP 0F 38 CB /r", "Vdq+rw,Wdq", SHA, ISA_ALIGN)
N(sha256msg1, "NP 0F 38 CC /r", "Vdq+rw,Wdq", SHA, ISA_ALIGN)
N(sha256msg2, "NP 0F 38 CD /r", "Vdq+rw,Wdq", SHA, ISA_ALIGN)
N(sha1rnds4, "NP 0F 3A CC /r", "Vdq+rw,Wdq,Ib", SHA, ISA_ALIGN)
N(gf2p8mulb, "66 0F 38 CF /r", "Vdq+rw,Wdq", GFNI, ISA_ALIGN)
N(vgf2p8mulb, "VEX 66 W0 0F 38 CF /r", "Vx+w,Hx,Wx", GFNI, 0)
N(gf2p8affineqb, "66 0F 3A CE /r", "Vdq+rw,Wdq,Ib", GFNI, ISA_ALIGN)
N(gf2p8affineinvqb, "66 0F 3A CF /r", "Vdq+rw,Wdq,Ib", GFNI, ISA_ALIGN)
N(vgf2p8affineqb, "VEX 66 W1 0F 3A CE /r", "Vx+w,Hx,Wx,Ib", GFNI, 0)
N(vgf2p8affineinvqb, "VEX 66 W1 0F 3A CF /r", "Vx+w,Hx,Wx,Ib", GFNI, 0)
