#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# acpi_iasl.sh ACPI_TEST: the tables as ACPICA's own tools see them: each disassembles, and the DSDT's source compiles without a warning.
set -eu
command -v iasl >/dev/null || exit 77
test=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$test" "$dir"
for table in XSDT FACP APIC MCFG HPET SRAT SLIT DSDT; do
    iasl -d "$table.dat" >"$table.log" 2>&1 || { cat "$table.log"; exit 1; }
    ! grep -iE 'error|warning|invalid|unknown' "$table.log"
    [ -s "$table.dsl" ]
done
! grep -E 'Invalid|Unknown|reserved field' FACP.dsl APIC.dsl MCFG.dsl HPET.dsl SRAT.dsl SLIT.dsl
iasl -tc DSDT.dsl >compile.log 2>&1 || { cat compile.log; exit 1; }
grep -q ' 0 Errors, 0 Warnings' compile.log || { cat compile.log; exit 1; }
