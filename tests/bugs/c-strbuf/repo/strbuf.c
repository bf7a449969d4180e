#include "strbuf.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST 16

int strbuf_init(struct strbuf *sb)
{
	sb->data = malloc(FIRST);
	sb->len = 0;
	sb->cap = FIRST;
	if (sb->data == NULL)
		return 0;
	sb->data[0] = '\0';
	return 1;
}

/* Makes room for `more` letters. */
static int grow(struct strbuf *sb, size_t more)
{
	size_t cap = sb->cap;
	char *data;

	while (sb->len + more > cap)
		cap *= 2;
	if (cap == sb->cap)
		return 1;
	data = realloc(sb->data, cap);
	if (data == NULL)
		return 0;
	sb->data = data;
	sb->cap = cap;
	return 1;
}

int strbuf_append(struct strbuf *sb, const char *text)
{
	size_t more = strlen(text);

	if (!grow(sb, more))
		return 0;
	memcpy(sb->data + sb->len, text, more + 1);
	sb->len += more;
	return 1;
}

int strbuf_append_number(struct strbuf *sb, long number)
{
	char text[32];

	snprintf(text, sizeof text, "%ld", number);
	return strbuf_append(sb, text);
}

void strbuf_trim(struct strbuf *sb)
{
	while (sb->len > 0 && isspace((unsigned char)sb->data[sb->len - 1]))
		sb->len--;
	sb->data[sb->len] = '\0';
}

void strbuf_free(struct strbuf *sb)
{
	free(sb->data);
	sb->data = NULL;
	sb->len = sb->cap = 0;
}
