#ifndef RATIONAL_H
#define RATIONAL_H

#include <stdbool.h>
#include <stddef.h>

/* A fraction in its lowest terms. */
struct rational {
	long numerator;
	long denominator;
};

/* `denominator` is not 0. */
struct rational rational_make(long numerator, long denominator);
struct rational rational_add(struct rational a, struct rational b);
struct rational rational_multiply(struct rational a, struct rational b);

/* `b` is not 0. */
struct rational rational_divide(struct rational a, struct rational b);
bool rational_equal(struct rational a, struct rational b);

/* Writes `3/4`, or `3` for whole numbers. */
void rational_print(struct rational r, char *text, size_t size);

#endif
