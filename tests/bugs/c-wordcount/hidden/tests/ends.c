#include <assert.h>

#include "count.h"

int main(void)
{
	assert(count_text("word").words == 1);
	assert(count_text("  a  b").words == 2);
	assert(count_text("a\tb\n\nc ").words == 3);
	assert(count_text("   ").words == 0);
	assert(count_text("a\nb").lines == 1);
	assert(count_text("\n").words == 0);
	return 0;
}
