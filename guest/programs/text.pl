# Regular expressions, hashes, sorting, packing and formats in Perl, with answers that do not depend on the machine.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use List::Util qw(sum max reduce);

my @words = map { my $w = $_; map { "$w$_" } qw(t nd rk l) } map { my $c = $_; map { "$c$_" } qw(a e i o u) } qw(b c d f g);
my $text = join ' ', map { $words[($_ * $_ + 7 * $_) % @words] } 0 .. 19999;
my %count;
$count{$_}++ for split / /, $text;
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "words ", scalar(@top), " $top[0] $count{$top[0]}\n";
my $matches = () = $text =~ /\b(\w)[aeiou]\w*k\b/g;
(my $swapped = $text) =~ s/(\w+) (\w+)/$2 $1/g;
print "regex $matches ", substr($swapped, 0, 50), "\n";
print "recursion ", ("((a)(b(c)))" =~ /^(\((?:[^()]++|(?1))*\))$/ ? "balanced" : "not"), "\n";
print "sha ", sha256_hex($text), "\n";
print "pack ", unpack("H*", pack("nNvVdQ>w", 258, 66051, 258, 66051, 1.5, 1 << 40, 300)), "\n";
print "sum ", sum(map { $_ * $_ } 1 .. 1000), " ", (reduce { $a * $b % 1000003 } 1 .. 500), "\n";
printf "float %.17g %.3e %s %s\n", 0.1 + 0.2, 1 / 3, 9**20, 1e308 * 10;
my @sorted = sort { $a <=> $b } map { ($_ * 7919) % 10007 } 1 .. 10000;
print "sort $sorted[0] $sorted[5000] $sorted[-1]\n";
(my $rotated = "Hello, World") =~ tr/A-Za-z/N-ZA-Mn-za-m/;
print "tr $rotated\n";
my $string = '';
$string .= chr(97 + $_ % 26) for 1 .. 100000;
print "string ", length($string), " ", index($string, "xyzab", 5000), " ", scalar reverse(substr $string, -10), "\n";
my $result = eval { die { code => 42 } };
print "die $@->{code}\n";
