#include "rational.h"

#include <stdio.h>

static long greatest_divisor(long a, long b)
{
	while (b > 0) {
		long rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

struct rational rational_make(long numerator, long denominator)
{
	struct rational r;
	long divisor = greatest_divisor(numerator, denominator);

	r.numerator = numerator / divisor;
	r.denominator = denominator / divisor;
	return r;
}

struct rational rational_add(struct rational a, struct rational b)
{
	return rational_make(a.numerator * b.denominator + b.numerator * a.denominator,
			     a.denominator * b.denominator);
}

struct rational rational_multiply(struct rational a, struct rational b)
{
	return rational_make(a.numerator * b.numerator, a.denominator * b.denominator);
}

struct rational rational_divide(struct rational a, struct rational b)
{
	return rational_make(a.numerator * b.denominator, a.denominator * b.numerator);
}

bool rational_equal(struct rational a, struct rational b)
{
	return a.numerator == b.numerator && a.denominator == b.denominator;
}

void rational_print(struct rational r, char *text, size_t size)
{
	if (r.denominator == 1)
		snprintf(text, size, "%ld", r.numerator);
	else
		snprintf(text, size, "%ld/%ld", r.numerator, r.denominator);
}
