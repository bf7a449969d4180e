#include <assert.h>

#include "ring.h"

int main(void)
{
	struct ring ring;
	int value = 0;

	ring_init(&ring);
	assert(!ring_pop(&ring, &value));
	for (int i = 0; i < RING_SIZE; i++)
		assert(ring_push(&ring, i));
	assert(!ring_push(&ring, 99));
	assert(ring_peek(&ring, 2, &value) && value == 2);
	for (int i = 0; i < RING_SIZE; i++)
		assert(ring_pop(&ring, &value) && value == i);
	for (int i = 0; i < 30; i++) {
		assert(ring_push(&ring, i));
		assert(ring_pop(&ring, &value));
		assert(value == i);
	}
	return 0;
}
