#include "ini.h"

#include <ctype.h>
#include <string.h>

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && isspace((unsigned char)*at))
		at++;
	return at;
}

static const char *drop_blanks(const char *start, const char *end)
{
	while (end > start && isspace((unsigned char)end[-1]))
		end--;
	return end;
}

static int same(const char *start, const char *end, const char *text)
{
	size_t length = (size_t)(end - start);

	return strlen(text) == length && memcmp(start, text, length) == 0;
}

int ini_get(const char *text, const char *section, const char *key, char *value, size_t size)
{
	int inside = *section == '\0';
	const char *line = text;

	while (*line != '\0') {
		const char *end = line + strcspn(line, "\n");
		const char *start = skip_blanks(line, end);
		const char *equals = memchr(start, '=', (size_t)(end - start));

		if (start < end && *start == '[') {
			const char *close = memchr(start, ']', (size_t)(end - start));
			inside = close != NULL && same(start + 1, close, section);
		} else if (inside && start < end && *start != ';' && equals != NULL
			   && same(start, drop_blanks(start, equals), key)) {
			const char *from = skip_blanks(equals + 1, end);
			size_t length = (size_t)(end - from);

			if (length >= size)
				return -1;
			memcpy(value, from, length);
			value[length] = '\0';
			return (int)length;
		}
		line = *end == '\n' ? end + 1 : end;
	}
	return -1;
}
