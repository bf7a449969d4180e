#include "count.h"

#include <ctype.h>
#include <stdbool.h>

struct counts count_text(const char *text)
{
	struct counts counts = {0, 0, 0};
	bool in_word = false;

	for (; *text != '\0'; text++) {
		if (*text == '\n')
			counts.lines++;
		if (isspace((unsigned char)*text)) {
			if (in_word)
				counts.words++;
			in_word = false;
		} else {
			counts.letters++;
			in_word = true;
		}
	}
	return counts;
}
