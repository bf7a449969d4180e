#include "search.h"

size_t lower_bound(const int *values, size_t count, int wanted)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (values[middle] == wanted)
			return middle;
		if (values[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

size_t upper_bound(const int *values, size_t count, int wanted)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (values[middle] <= wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

size_t count_of(const int *values, size_t count, int wanted)
{
	return upper_bound(values, count, wanted) - lower_bound(values, count, wanted);
}
