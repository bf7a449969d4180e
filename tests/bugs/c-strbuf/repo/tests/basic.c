#include <assert.h>
#include <string.h>

#include "strbuf.h"

int main(void)
{
	struct strbuf sb;

	assert(strbuf_init(&sb));
	assert(strbuf_append(&sb, "number "));
	assert(strbuf_append_number(&sb, -42));
	assert(strcmp(sb.data, "number -42") == 0);
	assert(strbuf_append(&sb, " and a longer text  \n"));
	strbuf_trim(&sb);
	assert(strcmp(sb.data, "number -42 and a longer text") == 0);
	strbuf_free(&sb);
	return 0;
}
