#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# check-fpu-clean.sh LIBX86.A: may guest vector state stay in the host's registers while this code runs?
#
# The engine's CPU part runs with the guest's x87, MMX, XMM and YMM registers live (src/softkvm/x86/cpu.h). So it must
#   1. use no such register itself, but for fpu_ops.S, whose work that is;
#   2. call nothing outside that might, but for the functions listed here, each for a reason.
# Fails with one line for each offence.
set -eu

lib=$1

# They begin with fpu_put(), or are built with -mgeneral-regs-only and put before they call on.
callee_puts='cpu_mmio_read cpu_mmio_write cpu_port_in cpu_port_out vm_exclusive_begin vm_exclusive_end vm_pause_all vm_resume_all'

# Ordinary C. Every function that calls one of them must call fpu_put() before; that it calls it at all is checked.
caller_puts='lapic_msr_read lapic_msr_write lapic_set_base lapic_tpr_get lapic_tpr_set lapic_tsc_deadline_get
             lapic_tsc_deadline_set pv_hypercall pv_msr_read pv_msr_write pv_before_run vm_phys_read vm_phys_write vm_phys_host'

# Run while no guest does: setting up and tearing down a vCPU, the code memory, signal handlers (which the kernel enters with fresh vector
# state and leaves with the old one).
not_running='mmap mmap64 munmap mprotect madvise memfd_create ftruncate ftruncate64 close fstat sysconf calloc malloc free aligned_alloc
             pthread_once pthread_mutex_init pthread_mutex_destroy sigaction sigemptyset sigaddset sigaltstack signal raise pthread_sigmask __errno_location
             __tls_get_addr clock_gettime clock_nanosleep nanosleep getpid gettid syscall getenv __assert_fail'

# The linker's.
linker='_GLOBAL_OFFSET_TABLE_ __start_ __stop_'

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

nm --defined-only "$lib" 2>/dev/null | awk 'NF == 3 && $2 ~ /[TtDdBbRrVWC]/ { print $3 }' | sort -u >"$tmp/defined"
nm --undefined-only "$lib" 2>/dev/null | awk '$1 == "U" { print $2 }' | sort -u >"$tmp/undefined"
printf '%s\n' $callee_puts $caller_puts $not_running $linker | sort -u >"$tmp/allowed"
[ -s "$tmp/defined" ] || { echo "check-fpu-clean: no symbols in $lib" >&2; exit 2; }

for sym in $(comm -23 "$tmp/undefined" "$tmp/defined" | comm -23 - "$tmp/allowed"); do
    who=$(nm -A --undefined-only "$lib" 2>/dev/null | awk -v s="$sym" '$NF == s { sub(/.*[:\/]/, "", $1); print $1 }' | sort -u | tr '\n' ' ')
    echo "check-fpu-clean: $sym is called from $who: it may use vector registers. Put the guest's state first, and list it in $0"
    status=1
done

# Registers %xmm0.. %ymm0.. %zmm0.. %mm0.. %st; instructions that begin with f or v are x87's and AVX's. And calls that need fpu_put().
objdump -dr --no-show-raw-insn "$lib" >"$tmp/text" 2>/dev/null
printf '%s\n' $caller_puts >"$tmp/caller_puts"
awk -v list="$tmp/caller_puts" '
    BEGIN { while ((getline s < list) > 0) needs[s] = 1 }
    function finish() { if (called != "" && !puts) { print "check-fpu-clean: " file ": " fn " calls " called " without fpu_put()"; bad = 1 } called = ""; puts = 0 }
    / file format / { finish(); file = $1; sub(/:$/, "", file); sub(/.*[\/(]/, "", file); next }
    /^[0-9a-f]+ <.*>:$/ { finish(); fn = $2; next }
    /R_X86_64_/ { s = $NF; sub(/[-+]0x[0-9a-f]+$/, "", s); if (s == "fpu_put") puts = 1; else if (s in needs) called = s; next }
    file ~ /fpu_ops/ { next }
    /%([xyz]mm|mm|st)/ || $2 ~ /^(f|v|emms$|ldmxcsr|stmxcsr|xsave|xrstor)/ {
        print "check-fpu-clean: " file ": " fn " uses a vector register: " $0; bad = 1
    }
    END { finish(); exit bad }' "$tmp/text" || status=1

[ $status -eq 0 ] && echo "check-fpu-clean: $(grep -c ' file format ' "$tmp/text") objects, $(wc -l <"$tmp/undefined") undefined symbols, all clean"
exit $status
