#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>

#define RING_SIZE 8

/* A queue of at most RING_SIZE numbers. */
struct ring {
	int values[RING_SIZE];
	size_t head; /* where the next value is taken */
	size_t count;
};

void ring_init(struct ring *ring);

/* Puts a value at the end; false if the queue is full. */
bool ring_push(struct ring *ring, int value);

/* Takes the oldest value; false if there is none. */
bool ring_pop(struct ring *ring, int *value);

/* Looks at the value at a place, 0 for the oldest; false if there is none. */
bool ring_peek(const struct ring *ring, size_t place, int *value);

#endif
