#ifndef COUNT_H
#define COUNT_H

#include <stddef.h>

struct counts {
	size_t lines; /* line ends */
	size_t words; /* runs of anything but white space */
	size_t letters; /* bytes that are no white space */
};

struct counts count_text(const char *text);

#endif
