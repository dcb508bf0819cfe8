# SPDX-License-Identifier: GPL-2.0-or-later
# work.pl N: hashes, sorting, regular expressions and string building in Perl.
use strict;
my ($n, $x, %count, $text) = (shift, 1, (), "");
for my $i (1 .. $n) {
    $x = ($x * 1103515245 + 12345) % 2147483648;
    my $key = "k" . ($x % 997);
    $count{$key} += $i % 13;
    $text .= chr(97 + $x % 26) if $i % 3 == 0;
}
my $vowels = () = $text =~ /[aeiou][^aeiou]+?[aeiou]/g;
my @order = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "$vowels $order[0] $count{$order[0]} ", scalar(@order), "\n";
