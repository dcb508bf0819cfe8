/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of the vector instructions that exist with a VEX prefix only: parts of AVX, AVX2, FMA, F16C, AVX-VNNI. Notation: isa_rows.h. */

N(vzeroupper, "VEX.128 NP 0F 77", "", AVX, 0)
N(vzeroall, "VEX.256 NP 0F 77", "", AVX, 0)

/* Permutations, broadcasts, lanes */
N(vpermilps, "VEX 66 W0 0F 38 0C /r", "Vx+w,Hx,Wx", AVX, 0)
N(vpermilpd, "VEX 66 W0 0F 38 0D /r", "Vx+w,Hx,Wx", AVX, 0)
N(vpermilps, "VEX 66 W0 0F 3A 04 /r", "Vx+w,Wx,Ib", AVX, 0)
N(vpermilpd, "VEX 66 W0 0F 3A 05 /r", "Vx+w,Wx,Ib", AVX, 0)
N(vpermps, "VEX.256 66 W0 0F 38 16 /r", "Vqq+w,Hqq,Wqq", AVX2, 0)
N(vpermd, "VEX.256 66 W0 0F 38 36 /r", "Vqq+w,Hqq,Wqq", AVX2, 0)
N(vpermq, "VEX.256 66 W1 0F 3A 00 /r", "Vqq+w,Wqq,Ib", AVX2, 0)
N(vpermpd, "VEX.256 66 W1 0F 3A 01 /r", "Vqq+w,Wqq,Ib", AVX2, 0)
N(vpblendd, "VEX 66 W0 0F 3A 02 /r", "Vx+w,Hx,Wx,Ib", AVX2, 0)
N(vperm2f128, "VEX.256 66 W0 0F 3A 06 /r", "Vqq+w,Hqq,Wqq,Ib", AVX, 0)
N(vperm2i128, "VEX.256 66 W0 0F 3A 46 /r", "Vqq+w,Hqq,Wqq,Ib", AVX2, 0)
N(vinsertf128, "VEX.256 66 W0 0F 3A 18 /r", "Vqq+w,Hqq,Wdq,Ib", AVX, 0)
N(vextractf128, "VEX.256 66 W0 0F 3A 19 /r", "Wdq+w,Vqq,Ib", AVX, 0)
N(vinserti128, "VEX.256 66 W0 0F 3A 38 /r", "Vqq+w,Hqq,Wdq,Ib", AVX2, 0)
N(vextracti128, "VEX.256 66 W0 0F 3A 39 /r", "Wdq+w,Vqq,Ib", AVX2, 0)
N(vbroadcastss, "VEX 66 W0 0F 38 18 /r", "Vx+w,Md", AVX, 0)
N(vbroadcastss, "VEX 66 W0 0F 38 18 /r", "Vx+w,Udq", AVX2, 0)
N(vbroadcastsd, "VEX.256 66 W0 0F 38 19 /r", "Vqq+w,Mq", AVX, 0)
N(vbroadcastsd, "VEX.256 66 W0 0F 38 19 /r", "Vqq+w,Udq", AVX2, 0)
N(vbroadcastf128, "VEX.256 66 W0 0F 38 1A /r", "Vqq+w,Mdq", AVX, 0)
N(vbroadcasti128, "VEX.256 66 W0 0F 38 5A /r", "Vqq+w,Mdq", AVX2, 0)
N(vpbroadcastb, "VEX 66 W0 0F 38 78 /r", "Vx+w,Wb", AVX2, 0)
N(vpbroadcastw, "VEX 66 W0 0F 38 79 /r", "Vx+w,Ww", AVX2, 0)
N(vpbroadcastd, "VEX 66 W0 0F 38 58 /r", "Vx+w,Wd", AVX2, 0)
N(vpbroadcastq, "VEX 66 W0 0F 38 59 /r", "Vx+w,Wq", AVX2, 0)
N(vblendvps, "VEX 66 W0 0F 3A 4A /r", "Vx+w,Hx,Wx,Lx", AVX, 0)
N(vblendvpd, "VEX 66 W0 0F 3A 4B /r", "Vx+w,Hx,Wx,Lx", AVX, 0)
N(vpblendvb, "VEX.128 66 W0 0F 3A 4C /r", "Vdq+w,Hdq,Wdq,Ldq", AVX, 0)
N(vpblendvb, "VEX.256 66 W0 0F 3A 4C /r", "Vqq+w,Hqq,Wqq,Lqq", AVX2, 0)
N(vtestps, "VEX 66 W0 0F 38 0E /r", "Vx,Wx", AVX, ISA_WFLAGS)
N(vtestpd, "VEX 66 W0 0F 38 0F /r", "Vx,Wx", AVX, ISA_WFLAGS)

/* Variable shifts */
N(vpsrlvd, "VEX 66 W0 0F 38 45 /r", "Vx+w,Hx,Wx", AVX2, 0)
N(vpsrlvq, "VEX 66 W1 0F 38 45 /r", "Vx+w,Hx,Wx", AVX2, 0)
N(vpsravd, "VEX 66 W0 0F 38 46 /r", "Vx+w,Hx,Wx", AVX2, 0)
N(vpsllvd, "VEX 66 W0 0F 38 47 /r", "Vx+w,Hx,Wx", AVX2, 0)
N(vpsllvq, "VEX 66 W1 0F 38 47 /r", "Vx+w,Hx,Wx", AVX2, 0)

/* Half precision */
N(vcvtph2ps, "VEX 66 W0 0F 38 13 /r", "Vx+w,Wh", F16C, 0)
N(vcvtps2ph, "VEX 66 W0 0F 3A 1D /r", "Wh+w,Vx,Ib", F16C, 0)

/* AVX-VNNI */
N(vpdpbusd, "VEX 66 W0 0F 38 50 /r", "Vx+rw,Hx,Wx", AVXVNNI, 0)
N(vpdpbusds, "VEX 66 W0 0F 38 51 /r", "Vx+rw,Hx,Wx", AVXVNNI, 0)
N(vpdpwssd, "VEX 66 W0 0F 38 52 /r", "Vx+rw,Hx,Wx", AVXVNNI, 0)
N(vpdpwssds, "VEX 66 W0 0F 38 53 /r", "Vx+rw,Hx,Wx", AVXVNNI, 0)

/* Element-masked moves: elements whose mask (operand 1 of the load, operand 1 of the store: vvvv) has its sign bit clear are not
 * accessed and cannot fault. The memory operand's size is that of the whole vector. */
V(vmaskmovps, "VEX 66 W0 0F 38 2C /r", "Vx+w,Hx,Mx", AVX, 0)
V(vmaskmovpd, "VEX 66 W0 0F 38 2D /r", "Vx+w,Hx,Mx", AVX, 0)
V(vmaskmovps, "VEX 66 W0 0F 38 2E /r", "Mx+w,Hx,Vx", AVX, 0)
V(vmaskmovpd, "VEX 66 W0 0F 38 2F /r", "Mx+w,Hx,Vx", AVX, 0)
V(vpmaskmovd, "VEX 66 W0 0F 38 8C /r", "Vx+w,Hx,Mx", AVX2, 0)
V(vpmaskmovq, "VEX 66 W1 0F 38 8C /r", "Vx+w,Hx,Mx", AVX2, 0)
V(vpmaskmovd, "VEX 66 W0 0F 38 8E /r", "Mx+w,Hx,Vx", AVX2, 0)
V(vpmaskmovq, "VEX 66 W1 0F 38 8E /r", "Mx+w,Hx,Vx", AVX2, 0)

/* Gathers: insn.index is a vector register; first letter of the suffix is the index's size, second the element's. With a quadword index
 * and doubleword elements the destination and mask are half the vector. */
V(vpgatherdd, "VEX 66 W0 0F 38 90 /r", "Vx+rw,Td,Hx+rw", AVX2, 0)
V(vpgatherdq, "VEX 66 W1 0F 38 90 /r", "Vx+rw,Tq,Hx+rw", AVX2, 0)
V(vpgatherqd, "VEX 66 W0 0F 38 91 /r", "Vdq+rw,Td,Hdq+rw", AVX2, 0)
V(vpgatherqq, "VEX 66 W1 0F 38 91 /r", "Vx+rw,Tq,Hx+rw", AVX2, 0)
V(vgatherdps, "VEX 66 W0 0F 38 92 /r", "Vx+rw,Td,Hx+rw", AVX2, 0)
V(vgatherdpd, "VEX 66 W1 0F 38 92 /r", "Vx+rw,Tq,Hx+rw", AVX2, 0)
V(vgatherqps, "VEX 66 W0 0F 38 93 /r", "Vdq+rw,Td,Hdq+rw", AVX2, 0)
V(vgatherqpd, "VEX 66 W1 0F 38 93 /r", "Vx+rw,Tq,Hx+rw", AVX2, 0)

/* FMA: packed and scalar, W selects double precision */
#define ISA_FMA_PACKED(m, n, op)                                                                                                   \
    N(v##m##n##ps, "VEX 66 W0 0F 38 " op " /r", "Vx+rw,Hx,Wx", FMA, 0)                                                             \
    N(v##m##n##pd, "VEX 66 W1 0F 38 " op " /r", "Vx+rw,Hx,Wx", FMA, 0)
#define ISA_FMA_SCALAR(m, n, op)                                                                                                   \
    N(v##m##n##ss, "VEX.LIG 66 W0 0F 38 " op " /r", "Vdq+rw,Hdq,Wd", FMA, 0)                                                       \
    N(v##m##n##sd, "VEX.LIG 66 W1 0F 38 " op " /r", "Vdq+rw,Hdq,Wq", FMA, 0)
#define ISA_FMA(n, d)                                                                                                              \
    ISA_FMA_PACKED(fmaddsub, n, d "6")                                                                                             \
    ISA_FMA_PACKED(fmsubadd, n, d "7")                                                                                             \
    ISA_FMA_PACKED(fmadd, n, d "8")                                                                                                \
    ISA_FMA_SCALAR(fmadd, n, d "9")                                                                                                \
    ISA_FMA_PACKED(fmsub, n, d "A")                                                                                                \
    ISA_FMA_SCALAR(fmsub, n, d "B")                                                                                                \
    ISA_FMA_PACKED(fnmadd, n, d "C")                                                                                               \
    ISA_FMA_SCALAR(fnmadd, n, d "D")                                                                                               \
    ISA_FMA_PACKED(fnmsub, n, d "E")                                                                                               \
    ISA_FMA_SCALAR(fnmsub, n, d "F")
ISA_FMA(132, "9")
ISA_FMA(213, "A")
ISA_FMA(231, "B")
#undef ISA_FMA
#undef ISA_FMA_PACKED
#undef ISA_FMA_SCALAR
