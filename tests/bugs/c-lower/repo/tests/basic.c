#include <assert.h>

#include "search.h"

int main(void)
{
	const int values[] = {2, 4, 6, 8};

	assert(lower_bound(values, 4, 4) == 1);
	assert(lower_bound(values, 4, 5) == 2);
	assert(lower_bound(values, 4, 9) == 4);
	assert(lower_bound(values, 0, 1) == 0);
	assert(upper_bound(values, 4, 4) == 2);
	assert(count_of(values, 4, 6) == 1);
	assert(count_of(values, 4, 5) == 0);
	return 0;
}
