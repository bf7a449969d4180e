#include "ring.h"

#include <string.h>

void ring_init(struct ring *ring)
{
	memset(ring, 0, sizeof *ring);
}

bool ring_push(struct ring *ring, int value)
{
	if (ring->count == RING_SIZE)
		return false;
	ring->values[ring->count] = value;
	ring->count++;
	return true;
}

bool ring_pop(struct ring *ring, int *value)
{
	if (ring->count == 0)
		return false;
	*value = ring->values[ring->head];
	ring->head = (ring->head + 1) % RING_SIZE;
	ring->count--;
	return true;
}

bool ring_peek(const struct ring *ring, size_t place, int *value)
{
	if (place >= ring->count)
		return false;
	*value = ring->values[(ring->head + place) % RING_SIZE];
	return true;
}
