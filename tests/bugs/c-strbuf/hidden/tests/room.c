#include <assert.h>
#include <string.h>

#include "strbuf.h"

int main(void)
{
	struct strbuf sb;
	size_t n;

	assert(strbuf_init(&sb));
	assert(strbuf_append(&sb, "0123456789abcdef"));
	assert(sb.len == 16);
	assert(sb.cap > sb.len);
	strbuf_free(&sb);

	assert(strbuf_init(&sb));
	for (n = 1; n <= 200; n++) {
		assert(strbuf_append(&sb, "x"));
		assert(sb.len == n);
		assert(sb.cap > sb.len);
		assert(strlen(sb.data) == n);
	}
	strbuf_free(&sb);
	return 0;
}
