#include <assert.h>
#include <string.h>

#include "rational.h"

int main(void)
{
	char text[32];

	assert(rational_equal(rational_make(2, 4), rational_make(1, 2)));
	rational_print(rational_add(rational_make(1, 2), rational_make(1, 3)), text, sizeof text);
	assert(strcmp(text, "5/6") == 0);
	rational_print(rational_multiply(rational_make(3, 2), rational_make(4, 3)), text, sizeof text);
	assert(strcmp(text, "2") == 0);
	rational_print(rational_divide(rational_make(1, 2), rational_make(3, 4)), text, sizeof text);
	assert(strcmp(text, "2/3") == 0);
	return 0;
}
