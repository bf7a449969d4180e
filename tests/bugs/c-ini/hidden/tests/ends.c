#include <assert.h>
#include <string.h>

#include "ini.h"

int main(void)
{
	char value[8];

	assert(ini_get("[a]\r\nx = on\r\ny=off\r\n", "a", "x", value, sizeof value) == 2);
	assert(strcmp(value, "on") == 0);
	assert(ini_get("x = on  \t\n", "", "x", value, sizeof value) == 2);
	assert(strcmp(value, "on") == 0);
	assert(ini_get("x =   \n", "", "x", value, sizeof value) == 0);
	assert(strcmp(value, "") == 0);
	assert(ini_get("x = a b ", "", "x", value, sizeof value) == 3);
	assert(ini_get("x = 1234567   \n", "", "x", value, sizeof value) == 7);
	return 0;
}
