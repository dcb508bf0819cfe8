/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * enum insn_op: one value for each mnemonic of isa_rows.h, in the rows' lower case: OP_add. ISA_HANDLED_OPS have a function op_<mnemonic>();
 * ISA_NATIVE_OPS run in native_exec(). A row whose mnemonic is missing here does not compile; tests/unit/x86 finds the converse.
 */
#ifndef LODGE_SOFTKVM_X86_ISA_OPS_H
#define LODGE_SOFTKVM_X86_ISA_OPS_H

#define ISA_HANDLED_OPS(X)                                                                                                        \
    X(add) X(or) X(adc) X(sbb) X(and) X(sub) X(xor) X(cmp) X(push_seg) X(pop_seg) X(daa) X(das) X(aaa) X(aas) X(aam) X(aad)        \
    X(salc) X(inc) X(dec) X(not) X(neg) X(push) X(pop) X(pusha) X(popa) X(pushf) X(popf) X(enter) X(leave) X(test) X(xchg)         \
    X(pause) X(nop) X(mov) X(mov_seg) X(lea) X(movsxd) X(movzx) X(movsx) X(movbe) X(bswap) X(cmovcc) X(setcc) X(cbw) X(cwd)        \
    X(lahf) X(sahf) X(xlat) X(movnti) X(movdiri) X(movdir64b) X(lfp) X(imul) X(mul) X(div) X(idiv) X(rol) X(ror) X(rcl) X(rcr)     \
    X(shl) X(shr) X(sar) X(shld) X(shrd) X(movs) X(cmps) X(stos) X(lods) X(scas) X(ins) X(outs) X(in) X(out) X(jcc) X(loopne)      \
    X(loope) X(loop) X(jcxz) X(call) X(jmp) X(call_ind) X(jmp_ind) X(ret) X(callf) X(jmpf) X(retf) X(iret) X(int3) X(int)          \
    X(into) X(int1) X(bound) X(ud2) X(ud1) X(ud0) X(cmc) X(clc) X(stc) X(cli) X(sti) X(cld) X(std) X(bt) X(bts) X(btr) X(btc)      \
    X(popcnt) X(tzcnt) X(bsf) X(lzcnt) X(bsr) X(crc32) X(adcx) X(adox) X(andn) X(blsr) X(blsmsk) X(blsi) X(bextr) X(bzhi)          \
    X(pext) X(pdep) X(mulx) X(shlx) X(sarx) X(shrx) X(rorx) X(cmpxchg) X(xadd) X(cmpxchg16b) X(cmpxchg8b) X(rdrand) X(rdseed)      \
    X(cldemote) X(arpl) X(sldt) X(str) X(lldt) X(ltr) X(verr) X(verw) X(sgdt) X(sidt) X(lgdt) X(lidt) X(smsw) X(lmsw)              \
    X(invlpg) X(lar) X(lsl) X(vmcall) X(monitor) X(mwait) X(clac) X(stac) X(xgetbv) X(xsetbv) X(vmmcall) X(serialize)              \
    X(rdpkru) X(wrpkru) X(swapgs) X(rdtscp) X(syscall) X(sysret) X(sysenter) X(sysexit) X(mov_cr) X(mov_dr) X(clts) X(wrmsr)       \
    X(rdtsc) X(rdmsr) X(rdpmc) X(cpuid) X(rdpid) X(rdfsbase) X(rdgsbase) X(wrfsbase) X(wrgsbase) X(hlt) X(rsm) X(wbnoinvd)         \
    X(invd) X(wbinvd) X(invpcid) X(clflush) X(clflushopt) X(clwb) X(lfence) X(mfence) X(sfence) X(fxsave) X(fxrstor)               \
    X(ldmxcsr) X(stmxcsr) X(xsave) X(xrstor) X(xsaveopt) X(xsavec) X(xsaves) X(xrstors) X(fldenv) X(fnstenv) X(frstor)             \
    X(fnsave) X(fwait) X(maskmovq) X(maskmovdqu) X(vmaskmovdqu) X(vmaskmovps) X(vmaskmovpd) X(vpmaskmovd) X(vpmaskmovq)            \
    X(vpgatherdd) X(vpgatherdq) X(vpgatherqd) X(vpgatherqq) X(vgatherdps) X(vgatherdpd) X(vgatherqps) X(vgatherqpd)  \
    X(vpscatterdd) X(vpscatterdq) X(vpscatterqd) X(vpscatterqq) X(vscatterdpd) X(vscatterdps) X(vscatterqpd) X(vscatterqps)

#define ISA_NATIVE_OPS(X)                                                                                                         \
    X(fadd) X(fiadd) X(fmul) X(fimul) X(fcom) X(ficom) X(fcomp) X(ficomp) X(fsub) X(fisub) X(fsubr) X(fisubr) X(fdiv) X(fidiv)     \
    X(fdivr) X(fidivr) X(fld) X(fst) X(fstp) X(fldcw) X(fnstcw) X(fxch) X(fnop) X(fstpnce) X(fchs) X(fabs) X(ftst) X(fxam)         \
    X(fld1) X(fldl2t) X(fldl2e) X(fldpi) X(fldlg2) X(fldln2) X(fldz) X(f2xm1) X(fyl2x) X(fptan) X(fpatan) X(fxtract) X(fprem1)     \
    X(fdecstp) X(fincstp) X(fprem) X(fyl2xp1) X(fsqrt) X(fsincos) X(frndint) X(fscale) X(fsin) X(fcos) X(fcmovb) X(fcmove)         \
    X(fcmovbe) X(fcmovu) X(fucompp) X(fild) X(fisttp) X(fist) X(fistp) X(fcmovnb) X(fcmovne) X(fcmovnbe) X(fcmovnu) X(fneni)       \
    X(fndisi) X(fnclex) X(fninit) X(fnsetpm) X(fucomi) X(fcomi) X(fnstsw) X(ffree) X(fucom) X(fucomp) X(faddp) X(fmulp)            \
    X(fcompp) X(fsubrp) X(fsubp) X(fdivrp) X(fdivp) X(fbld) X(fbstp) X(ffreep) X(fucomip) X(fcomip) X(addps) X(addpd)              \
    X(vaddps) X(vaddpd) X(addss) X(addsd) X(vaddss) X(vaddsd) X(mulps) X(mulpd) X(vmulps) X(vmulpd) X(mulss) X(mulsd)              \
    X(vmulss) X(vmulsd) X(subps) X(subpd) X(vsubps) X(vsubpd) X(subss) X(subsd) X(vsubss) X(vsubsd) X(minps) X(minpd)              \
    X(vminps) X(vminpd) X(minss) X(minsd) X(vminss) X(vminsd) X(divps) X(divpd) X(vdivps) X(vdivpd) X(divss) X(divsd)              \
    X(vdivss) X(vdivsd) X(maxps) X(maxpd) X(vmaxps) X(vmaxpd) X(maxss) X(maxsd) X(vmaxss) X(vmaxsd) X(andps) X(andpd)              \
    X(vandps) X(vandpd) X(andnps) X(andnpd) X(vandnps) X(vandnpd) X(orps) X(orpd) X(vorps) X(vorpd) X(xorps) X(xorpd)              \
    X(vxorps) X(vxorpd) X(unpcklps) X(unpcklpd) X(vunpcklps) X(vunpcklpd) X(unpckhps) X(unpckhpd) X(vunpckhps) X(vunpckhpd)        \
    X(sqrtps) X(sqrtss) X(vsqrtps) X(vsqrtss) X(rsqrtps) X(rsqrtss) X(vrsqrtps) X(vrsqrtss) X(rcpps) X(rcpss) X(vrcpps)            \
    X(vrcpss) X(sqrtpd) X(sqrtsd) X(vsqrtpd) X(vsqrtsd) X(cmpps) X(cmppd) X(cmpss) X(cmpsd) X(vcmpps) X(vcmppd) X(vcmpss)          \
    X(vcmpsd) X(shufps) X(shufpd) X(vshufps) X(vshufpd) X(ucomiss) X(ucomisd) X(vucomiss) X(vucomisd) X(comiss) X(comisd)          \
    X(vcomiss) X(vcomisd) X(haddpd) X(haddps) X(vhaddpd) X(vhaddps) X(hsubpd) X(hsubps) X(vhsubpd) X(vhsubps) X(addsubpd)          \
    X(addsubps) X(vaddsubpd) X(vaddsubps) X(movups) X(vmovups) X(movupd) X(vmovupd) X(movaps) X(vmovaps) X(movapd) X(vmovapd)      \
    X(movdqa) X(vmovdqa) X(movdqu) X(vmovdqu) X(movss) X(movsd) X(vmovss) X(vmovsd) X(movhlps) X(movlps) X(movlpd) X(movlhps)      \
    X(movhps) X(movhpd) X(vmovhlps) X(vmovlps) X(vmovlpd) X(vmovlhps) X(vmovhps) X(vmovhpd) X(movsldup) X(movshdup) X(movddup)     \
    X(vmovsldup) X(vmovshdup) X(vmovddup) X(movntps) X(movntpd) X(movntdq) X(movntdqa) X(vmovntps) X(vmovntpd) X(vmovntdq)         \
    X(vmovntdqa) X(movntq) X(lddqu) X(vlddqu) X(movmskps) X(movmskpd) X(vmovmskps) X(vmovmskpd) X(pmovmskb) X(vpmovmskb)           \
    X(movq) X(movd) X(vmovq) X(vmovd) X(movq2dq) X(movdq2q) X(emms) X(cvtpi2ps) X(cvtpi2pd) X(cvtsi2ss) X(cvtsi2sd)                \
    X(vcvtsi2ss) X(vcvtsi2sd) X(cvttps2pi) X(cvttpd2pi) X(cvttss2si) X(cvttsd2si) X(vcvttss2si) X(vcvttsd2si) X(cvtps2pi)          \
    X(cvtpd2pi) X(cvtss2si) X(cvtsd2si) X(vcvtss2si) X(vcvtsd2si) X(cvtps2pd) X(cvtpd2ps) X(cvtss2sd) X(cvtsd2ss) X(vcvtps2pd)     \
    X(vcvtpd2ps) X(vcvtss2sd) X(vcvtsd2ss) X(cvtdq2ps) X(vcvtdq2ps) X(cvtps2dq) X(vcvtps2dq) X(cvttps2dq) X(vcvttps2dq)            \
    X(cvttpd2dq) X(cvtpd2dq) X(cvtdq2pd) X(vcvttpd2dq) X(vcvtpd2dq) X(vcvtdq2pd) X(punpcklbw) X(vpunpcklbw) X(punpcklwd)           \
    X(vpunpcklwd) X(punpckldq) X(vpunpckldq) X(packsswb) X(vpacksswb) X(pcmpgtb) X(vpcmpgtb) X(pcmpgtw) X(vpcmpgtw) X(pcmpgtd)     \
    X(vpcmpgtd) X(packuswb) X(vpackuswb) X(punpckhbw) X(vpunpckhbw) X(punpckhwd) X(vpunpckhwd) X(punpckhdq) X(vpunpckhdq)          \
    X(packssdw) X(vpackssdw) X(punpcklqdq) X(vpunpcklqdq) X(punpckhqdq) X(vpunpckhqdq) X(pcmpeqb) X(vpcmpeqb) X(pcmpeqw)           \
    X(vpcmpeqw) X(pcmpeqd) X(vpcmpeqd) X(psrlw) X(vpsrlw) X(psrld) X(vpsrld) X(psrlq) X(vpsrlq) X(psraw) X(vpsraw) X(psrad)        \
    X(vpsrad) X(psllw) X(vpsllw) X(pslld) X(vpslld) X(psllq) X(vpsllq) X(psrldq) X(vpsrldq) X(pslldq) X(vpslldq) X(paddq)          \
    X(vpaddq) X(pmullw) X(vpmullw) X(psubusb) X(vpsubusb) X(psubusw) X(vpsubusw) X(pminub) X(vpminub) X(pand) X(vpand)             \
    X(paddusb) X(vpaddusb) X(paddusw) X(vpaddusw) X(pmaxub) X(vpmaxub) X(pandn) X(vpandn) X(pavgb) X(vpavgb) X(pavgw)              \
    X(vpavgw) X(pmulhuw) X(vpmulhuw) X(pmulhw) X(vpmulhw) X(psubsb) X(vpsubsb) X(psubsw) X(vpsubsw) X(pminsw) X(vpminsw)           \
    X(por) X(vpor) X(paddsb) X(vpaddsb) X(paddsw) X(vpaddsw) X(pmaxsw) X(vpmaxsw) X(pxor) X(vpxor) X(pmuludq) X(vpmuludq)          \
    X(pmaddwd) X(vpmaddwd) X(psadbw) X(vpsadbw) X(psubb) X(vpsubb) X(psubw) X(vpsubw) X(psubd) X(vpsubd) X(psubq) X(vpsubq)        \
    X(paddb) X(vpaddb) X(paddw) X(vpaddw) X(paddd) X(vpaddd) X(pshufb) X(vpshufb) X(phaddw) X(vphaddw) X(phaddd) X(vphaddd)        \
    X(phaddsw) X(vphaddsw) X(pmaddubsw) X(vpmaddubsw) X(phsubw) X(vphsubw) X(phsubd) X(vphsubd) X(phsubsw) X(vphsubsw)             \
    X(psignb) X(vpsignb) X(psignw) X(vpsignw) X(psignd) X(vpsignd) X(pmulhrsw) X(vpmulhrsw) X(pmuldq) X(vpmuldq) X(pcmpeqq)        \
    X(vpcmpeqq) X(packusdw) X(vpackusdw) X(pcmpgtq) X(vpcmpgtq) X(pminsb) X(vpminsb) X(pminsd) X(vpminsd) X(pminuw) X(vpminuw)     \
    X(pminud) X(vpminud) X(pmaxsb) X(vpmaxsb) X(pmaxsd) X(vpmaxsd) X(pmaxuw) X(vpmaxuw) X(pmaxud) X(vpmaxud) X(pmulld)             \
    X(vpmulld) X(pabsb) X(vpabsb) X(pabsw) X(vpabsw) X(pabsd) X(vpabsd) X(pmovsxbw) X(vpmovsxbw) X(pmovsxbd) X(vpmovsxbd)          \
    X(pmovsxbq) X(vpmovsxbq) X(pmovsxwd) X(vpmovsxwd) X(pmovsxwq) X(vpmovsxwq) X(pmovsxdq) X(vpmovsxdq) X(pmovzxbw)                \
    X(vpmovzxbw) X(pmovzxbd) X(vpmovzxbd) X(pmovzxbq) X(vpmovzxbq) X(pmovzxwd) X(vpmovzxwd) X(pmovzxwq) X(vpmovzxwq)               \
    X(pmovzxdq) X(vpmovzxdq) X(phminposuw) X(vphminposuw) X(pblendvb) X(blendvps) X(blendvpd) X(ptest) X(vptest) X(pshufw)         \
    X(pshufd) X(vpshufd) X(pshufhw) X(vpshufhw) X(pshuflw) X(vpshuflw) X(pinsrw) X(vpinsrw) X(pextrw) X(vpextrw) X(pextrb)         \
    X(pextrq) X(pextrd) X(extractps) X(vpextrb) X(vpextrq) X(vpextrd) X(vextractps) X(pinsrb) X(insertps) X(pinsrq) X(pinsrd)      \
    X(vpinsrb) X(vinsertps) X(vpinsrq) X(vpinsrd) X(roundps) X(roundpd) X(roundss) X(roundsd) X(vroundps) X(vroundpd)              \
    X(vroundss) X(vroundsd) X(palignr) X(blendps) X(vblendps) X(blendpd) X(vblendpd) X(pblendw) X(vpblendw) X(vpalignr)            \
    X(dpps) X(vdpps) X(mpsadbw) X(vmpsadbw) X(pclmulqdq) X(vpclmulqdq) X(dppd) X(vdppd) X(pcmpestrm) X(pcmpestri) X(pcmpistrm)     \
    X(pcmpistri) X(vpcmpestrm) X(vpcmpestri) X(vpcmpistrm) X(vpcmpistri) X(aesenc) X(vaesenc) X(aesenclast) X(vaesenclast)         \
    X(aesdec) X(vaesdec) X(aesdeclast) X(vaesdeclast) X(aesimc) X(vaesimc) X(aeskeygenassist) X(vaeskeygenassist) X(sha1nexte)     \
    X(sha1msg1) X(sha1msg2) X(sha256rnds2) X(sha256msg1) X(sha256msg2) X(sha1rnds4) X(gf2p8mulb) X(vgf2p8mulb)                     \
    X(gf2p8affineqb) X(gf2p8affineinvqb) X(vgf2p8affineqb) X(vgf2p8affineinvqb) X(vzeroupper) X(vzeroall) X(vpermilps)             \
    X(vpermilpd) X(vpermps) X(vpermd) X(vpermq) X(vpermpd) X(vpblendd) X(vperm2f128) X(vperm2i128) X(vinsertf128)                  \
    X(vextractf128) X(vinserti128) X(vextracti128) X(vbroadcastss) X(vbroadcastsd) X(vbroadcastf128) X(vbroadcasti128)             \
    X(vpbroadcastb) X(vpbroadcastw) X(vpbroadcastd) X(vpbroadcastq) X(vblendvps) X(vblendvpd) X(vpblendvb) X(vtestps)              \
    X(vtestpd) X(vpsrlvd) X(vpsrlvq) X(vpsravd) X(vpsllvd) X(vpsllvq) X(vcvtph2ps) X(vcvtps2ph) X(vpdpbusd) X(vpdpbusds)           \
    X(vpdpwssd) X(vpdpwssds) X(vfmaddsub132ps) X(vfmaddsub132pd) X(vfmsubadd132ps) X(vfmsubadd132pd) X(vfmadd132ps)                \
    X(vfmadd132pd) X(vfmadd132ss) X(vfmadd132sd) X(vfmsub132ps) X(vfmsub132pd) X(vfmsub132ss) X(vfmsub132sd) X(vfnmadd132ps)       \
    X(vfnmadd132pd) X(vfnmadd132ss) X(vfnmadd132sd) X(vfnmsub132ps) X(vfnmsub132pd) X(vfnmsub132ss) X(vfnmsub132sd)                \
    X(vfmaddsub213ps) X(vfmaddsub213pd) X(vfmsubadd213ps) X(vfmsubadd213pd) X(vfmadd213ps) X(vfmadd213pd) X(vfmadd213ss)           \
    X(vfmadd213sd) X(vfmsub213ps) X(vfmsub213pd) X(vfmsub213ss) X(vfmsub213sd) X(vfnmadd213ps) X(vfnmadd213pd) X(vfnmadd213ss)     \
    X(vfnmadd213sd) X(vfnmsub213ps) X(vfnmsub213pd) X(vfnmsub213ss) X(vfnmsub213sd) X(vfmaddsub231ps) X(vfmaddsub231pd)            \
    X(vfmsubadd231ps) X(vfmsubadd231pd) X(vfmadd231ps) X(vfmadd231pd) X(vfmadd231ss) X(vfmadd231sd) X(vfmsub231ps)                 \
    X(vfmsub231pd) X(vfmsub231ss) X(vfmsub231sd) X(vfnmadd231ps) X(vfnmadd231pd) X(vfnmadd231ss) X(vfnmadd231sd)                   \
    X(vfnmsub231ps) X(vfnmsub231pd) X(vfnmsub231ss) X(vfnmsub231sd)  \
    X(kaddb) X(kaddd) X(kaddq) X(kaddw) X(kandb) X(kandd) X(kandnb) X(kandnd) X(kandnq) X(kandnw) X(kandq) X(kandw) X(kmovb)      \
    X(kmovd) X(kmovq) X(kmovw) X(knotb) X(knotd) X(knotq) X(knotw) X(korb) X(kord) X(korq) X(kortestb) X(kortestd) X(kortestq)    \
    X(kortestw) X(korw) X(kshiftlb) X(kshiftld) X(kshiftlq) X(kshiftlw) X(kshiftrb) X(kshiftrd) X(kshiftrq) X(kshiftrw)           \
    X(ktestb) X(ktestd) X(ktestq) X(ktestw) X(kunpckbw) X(kunpckdq) X(kunpckwd) X(kxnorb) X(kxnord) X(kxnorq) X(kxnorw)           \
    X(kxorb) X(kxord) X(kxorq) X(kxorw) X(valignd) X(valignq) X(vblendmpd) X(vblendmps) X(vbroadcastf32x2) X(vbroadcastf32x4)     \
    X(vbroadcastf32x8) X(vbroadcastf64x2) X(vbroadcastf64x4) X(vbroadcasti32x2) X(vbroadcasti32x4) X(vbroadcasti32x8)             \
    X(vbroadcasti64x2) X(vbroadcasti64x4) X(vcompresspd) X(vcompressps) X(vcvtne2ps2bf16) X(vcvtneps2bf16) X(vcvtpd2qq)           \
    X(vcvtpd2udq) X(vcvtpd2uqq) X(vcvtps2qq) X(vcvtps2udq) X(vcvtps2uqq) X(vcvtqq2pd) X(vcvtqq2ps) X(vcvtsd2usi) X(vcvtss2usi)    \
    X(vcvttpd2qq) X(vcvttpd2udq) X(vcvttpd2uqq) X(vcvttps2qq) X(vcvttps2udq) X(vcvttps2uqq) X(vcvttsd2usi) X(vcvttss2usi)         \
    X(vcvtudq2pd) X(vcvtudq2ps) X(vcvtuqq2pd) X(vcvtuqq2ps) X(vcvtusi2sd) X(vcvtusi2ss) X(vdbpsadbw) X(vdpbf16ps) X(vexpandpd)    \
    X(vexpandps) X(vextractf32x4) X(vextractf32x8) X(vextractf64x2) X(vextractf64x4) X(vextracti32x4) X(vextracti32x8)            \
    X(vextracti64x2) X(vextracti64x4) X(vfixupimmpd) X(vfixupimmps) X(vfixupimmsd) X(vfixupimmss) X(vfpclasspd) X(vfpclassps)     \
    X(vfpclasssd) X(vfpclassss) X(vgetexppd) X(vgetexpps) X(vgetexpsd) X(vgetexpss) X(vgetmantpd) X(vgetmantps) X(vgetmantsd)     \
    X(vgetmantss) X(vinsertf32x4) X(vinsertf32x8) X(vinsertf64x2) X(vinsertf64x4) X(vinserti32x4) X(vinserti32x8)                 \
    X(vinserti64x2) X(vinserti64x4) X(vmovdqa32) X(vmovdqa64) X(vmovdqu16) X(vmovdqu32) X(vmovdqu64) X(vmovdqu8) X(vpabsq)        \
    X(vpandd) X(vpandnd) X(vpandnq) X(vpandq) X(vpblendmb) X(vpblendmd) X(vpblendmq) X(vpblendmw) X(vpbroadcastmb2q)              \
    X(vpbroadcastmw2d) X(vpcmpb) X(vpcmpd) X(vpcmpq) X(vpcmpub) X(vpcmpud) X(vpcmpuq) X(vpcmpuw) X(vpcmpw) X(vpcompressb)         \
    X(vpcompressd) X(vpcompressq) X(vpcompressw) X(vpconflictd) X(vpconflictq) X(vpermb) X(vpermi2b) X(vpermi2d) X(vpermi2pd)     \
    X(vpermi2ps) X(vpermi2q) X(vpermi2w) X(vpermt2b) X(vpermt2d) X(vpermt2pd) X(vpermt2ps) X(vpermt2q) X(vpermt2w) X(vpermw)      \
    X(vpexpandb) X(vpexpandd) X(vpexpandq) X(vpexpandw) X(vplzcntd) X(vplzcntq) X(vpmadd52huq) X(vpmadd52luq) X(vpmaxsq)          \
    X(vpmaxuq) X(vpminsq) X(vpminuq) X(vpmovb2m) X(vpmovd2m) X(vpmovdb) X(vpmovdw) X(vpmovm2b) X(vpmovm2d) X(vpmovm2q)            \
    X(vpmovm2w) X(vpmovq2m) X(vpmovqb) X(vpmovqd) X(vpmovqw) X(vpmovsdb) X(vpmovsdw) X(vpmovsqb) X(vpmovsqd) X(vpmovsqw)          \
    X(vpmovswb) X(vpmovusdb) X(vpmovusdw) X(vpmovusqb) X(vpmovusqd) X(vpmovusqw) X(vpmovuswb) X(vpmovw2m) X(vpmovwb)              \
    X(vpmullq) X(vpmultishiftqb) X(vpopcntb) X(vpopcntd) X(vpopcntq) X(vpopcntw) X(vpord) X(vporq) X(vprold) X(vprolq)            \
    X(vprolvd) X(vprolvq) X(vprord) X(vprorq) X(vprorvd) X(vprorvq) X(vpshldd) X(vpshldq) X(vpshldvd) X(vpshldvq) X(vpshldvw)     \
    X(vpshldw) X(vpshrdd) X(vpshrdq) X(vpshrdvd) X(vpshrdvq) X(vpshrdvw) X(vpshrdw) X(vpshufbitqmb) X(vpsllvw) X(vpsraq)          \
    X(vpsravq) X(vpsravw) X(vpsrlvw) X(vpternlogd) X(vpternlogq) X(vptestmb) X(vptestmd) X(vptestmq) X(vptestmw) X(vptestnmb)     \
    X(vptestnmd) X(vptestnmq) X(vptestnmw) X(vpxord) X(vpxorq) X(vrangepd) X(vrangeps) X(vrangesd) X(vrangess) X(vrcp14pd)        \
    X(vrcp14ps) X(vrcp14sd) X(vrcp14ss) X(vreducepd) X(vreduceps) X(vreducesd) X(vreducess) X(vrndscalepd) X(vrndscaleps)         \
    X(vrndscalesd) X(vrndscaless) X(vrsqrt14pd) X(vrsqrt14ps) X(vrsqrt14sd) X(vrsqrt14ss) X(vscalefpd) X(vscalefps)               \
    X(vscalefsd) X(vscalefss) X(vshuff32x4) X(vshuff64x2) X(vshufi32x4) X(vshufi64x2)

#define ISA_OP_ENUM(m) OP_##m,
enum insn_op { ISA_HANDLED_OPS(ISA_OP_ENUM) ISA_NATIVE_OPS(ISA_OP_ENUM) OP_COUNT };
#undef ISA_OP_ENUM

#endif
