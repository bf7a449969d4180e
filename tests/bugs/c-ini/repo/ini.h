#ifndef INI_H
#define INI_H

#include <stddef.h>

/*
 * Copies the value of `key` in `[section]` into `value`, without blanks around it.
 * Returns its length, or -1 if there is no such key or it does not fit.
 */
int ini_get(const char *text, const char *section, const char *key, char *value, size_t size);

#endif
