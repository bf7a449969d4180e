#include <assert.h>

#include "search.h"

int main(void)
{
	const int values[] = {1, 3, 3, 3, 5};
	const int same[] = {7, 7, 7, 7, 7, 7};

	assert(lower_bound(values, 5, 3) == 1);
	assert(count_of(values, 5, 3) == 3);
	assert(lower_bound(same, 6, 7) == 0);
	assert(upper_bound(same, 6, 7) == 6);
	assert(count_of(same, 6, 7) == 6);
	assert(lower_bound(same, 6, 8) == 6);
	assert(lower_bound(same, 6, 6) == 0);
	return 0;
}
