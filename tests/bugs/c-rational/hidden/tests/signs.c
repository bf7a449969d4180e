#include <assert.h>
#include <string.h>

#include "rational.h"

static void prints(struct rational r, const char *expected)
{
	char text[32];

	rational_print(r, text, sizeof text);
	assert(strcmp(text, expected) == 0);
}

int main(void)
{
	prints(rational_make(1, -2), "-1/2");
	prints(rational_make(-2, 4), "-1/2");
	prints(rational_make(-6, -4), "3/2");
	prints(rational_make(0, -5), "0");
	prints(rational_make(-8, 4), "-2");
	prints(rational_divide(rational_make(1, 2), rational_make(-1, 4)), "-2");
	prints(rational_add(rational_make(1, 2), rational_make(-3, 4)), "-1/4");
	assert(rational_equal(rational_make(1, -2), rational_make(-1, 2)));
	return 0;
}
