# Big integers and floats in Perl: Math::BigInt without its C library.
use strict;
use warnings;
use Math::BigInt lib => 'Calc';
use Math::BigFloat lib => 'Calc';

my ($a, $b) = (Math::BigInt->new(0), Math::BigInt->new(1));
($a, $b) = ($b, $a + $b) for 1 .. 500;
print "fibonacci $a\n";
print "factorial ", Math::BigInt->new(100)->bfac, "\n";
print "modpow ", Math::BigInt->new(3)->bmodpow(Math::BigInt->new(10)**30, Math::BigInt->new(10)**25 + 13), "\n";
print "pi ", Math::BigFloat->bpi(80), "\n";
print "sqrt ", Math::BigFloat->new(2)->bsqrt(80), "\n";
