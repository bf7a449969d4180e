#ifndef STRBUF_H
#define STRBUF_H

#include <stddef.h>

/* A string that grows; `data` always ends in a zero, which `len` does not count. */
struct strbuf {
	char *data;
	size_t len;
	size_t cap;
};

/* Makes an empty string; 0 if there is no memory. */
int strbuf_init(struct strbuf *sb);

/* Appends a text; 0 if there is no memory. */
int strbuf_append(struct strbuf *sb, const char *text);

/* Appends a number; 0 if there is no memory. */
int strbuf_append_number(struct strbuf *sb, long number);

/* Removes white space at the end. */
void strbuf_trim(struct strbuf *sb);

void strbuf_free(struct strbuf *sb);

#endif
