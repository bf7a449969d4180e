#include <assert.h>

#include "count.h"

int main(void)
{
	struct counts counts = count_text("one two\nthree\n");

	assert(counts.lines == 2);
	assert(counts.words == 3);
	assert(counts.letters == 11);
	assert(count_text("").words == 0);
	assert(count_text("one two").words == 2);
	return 0;
}
