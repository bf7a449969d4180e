#ifndef SEARCH_H
#define SEARCH_H

#include <stddef.h>

/* The place of the first value that is not less than `wanted`; `count` if there is none. */
size_t lower_bound(const int *values, size_t count, int wanted);

/* The place of the first value that is greater than `wanted`; `count` if there is none. */
size_t upper_bound(const int *values, size_t count, int wanted);

/* How often `wanted` is there. */
size_t count_of(const int *values, size_t count, int wanted);

#endif
