/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rows of the instruction set. An X-macro file: define the three macros below, then include it, as often as needed.
 *
 *     I(mnemonic, encoding, operands, feature, flags)   executed by op_<mnemonic>()
 *     N(mnemonic, encoding, operands, feature, flags)   ISA_NATIVE: executed by native_exec() on the host's own units
 *     V(mnemonic, encoding, operands, feature, flags)   ISA_NATIVE | ISA_NOVM: vector or x87 state, but executed by op_<mnemonic>()
 *
 * Of several rows that match, the first one wins; so special cases stand before general ones.
 *
 * encoding, in the SDM's notation (vol. 2, 3.1.1), words separated by blanks:
 *   NP 66 F3 F2   mandatory prefix (VEX: the pp field). NP: none of the three. NFx: neither F2 nor F3, 66 is the operand size.
 *                 With none of these words, 66 is the operand size and F2/F3 are ignored or repeat.
 *   VEX.128 VEX.256 VEX (either length) VEX.LIG (length ignored) VEX.LZ (L must be 0); in legacy encodings nothing
 *   EVEX.128 EVEX.256 EVEX.512 EVEX (any length) EVEX.LIG
 *   0F, 0F 38, 0F 3A   opcode map
 *   W0 W1         REX.W or VEX.W must be that; otherwise W is the operand size or is ignored
 *   B0            REX.B must be 0
 *   XX, XX+r, XX+cc    opcode; +r: the low three bits are a register; +cc: the low four are a condition
 *   /r /0../7     a ModRM byte follows; a digit: its reg field
 *   /r!           a ModRM byte follows whose mod field is ignored: rm is always a register (MOV CRn)
 *   XX, XX+i      (second byte behind the opcode) the whole ModRM byte, mod 3; +i: rm is free
 *
 * operands, at most four, destination first, separated by commas; each is a letter for the place, a size, and how it is used:
 *   A far pointer in the instruction      B general register VEX.vvvv        C control register (reg)   D debug register (reg)
 *   E general register or memory (rm)     G general register (reg)           H vector register VEX.vvvv I immediate
 *   J branch displacement                 L vector register in imm8[7:4]     M memory only              N MMX register (rm)
 *   O moffs                               P MMX register (reg)               Q MMX register or memory   R general register (rm)
 *   S segment register (reg)              T VSIB memory (size of an element) U vector register (rm)     V vector register (reg)
 *   W vector register or memory (rm)      X string source, seg:rSI           Y string destination, ES:rDI
 *   F opmask (reg)   k opmask VEX.vvvv   m opmask (rm)   K opmask or memory (rm)
 *   Z general register in the opcode      AL CL AX DX rAX eAX ES..GS ST0 STi: that very register         1: the constant
 * sizes: b 1, w 2, d 4, q 8, t 10, dq 16, qq 32, oq 64 bytes; v operand size; z operand size, 4 at most; y 4, or 8 with W; n 8 in 64-bit
 *   code, else 4; j address size; x vector length, h half, f a quarter, o an eighth of it; p far pointer (2 + operand size); a BOUND's pair;
 *   s pseudo-descriptor (6, in 64-bit code 10); bs a byte, sign-extended; 0: no data access, or a size that depends on state.
 *   A second size behind a slash is that of the memory form: Ev/w. Vector registers have the size of the vector whatever the row says:
 *   Wd is an XMM register or 4 bytes of memory.
 * use: nothing or +r read, +w written, +rw both. Registers that only the mnemonic names (rAX of MUL, xmm0 of BLENDVPS, rAX/rDX/rCX of
 *   PCMPESTRI, rDI of MASKMOVQ, rSI/rDI/rCX of strings, x87 stack changes) are in no operand; a comment says so for the vector rows.
 *   String operands (X, Y) have kind OPK_NONE in `struct insn`, with the element's size. FAR-pointer loads name their segment as operand 2.
 *
 * feature is FEAT_<feature>; flags are ISA_ bits (isa.h). Every VEX row gets ISA_PROT by itself.
 */
#include "softkvm/x86/isa_rows_int.h"
#include "softkvm/x86/isa_rows_sys.h"
#include "softkvm/x86/isa_rows_x87.h"
#include "softkvm/x86/isa_rows_sse.h"
#include "softkvm/x86/isa_rows_vex.h"
#include "softkvm/x86/isa_rows_evex.h"
