#include <assert.h>
#include <string.h>

#include "ini.h"

static const char *TEXT = "name = top\n[server]\n; port = 1\nport = 80\nhost=a b\n\n[log]\nport = 9\n";

int main(void)
{
	char value[16];

	assert(ini_get(TEXT, "server", "port", value, sizeof value) == 2);
	assert(strcmp(value, "80") == 0);
	assert(ini_get(TEXT, "server", "host", value, sizeof value) == 3);
	assert(strcmp(value, "a b") == 0);
	assert(ini_get(TEXT, "", "name", value, sizeof value) == 3);
	assert(ini_get(TEXT, "log", "host", value, sizeof value) == -1);
	assert(ini_get(TEXT, "server", "host", value, 3) == -1);
	return 0;
}
