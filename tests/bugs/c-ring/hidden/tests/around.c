#include <assert.h>

#include "ring.h"

int main(void)
{
	struct ring ring;
	int value = 0, next = 0, expected = 0;

	ring_init(&ring);
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 5; i++)
			assert(ring_push(&ring, next++));
		assert(ring_peek(&ring, 4, &value) && value == next - 1);
		for (int i = 0; i < 5; i++) {
			assert(ring_pop(&ring, &value));
			assert(value == expected++);
		}
		assert(ring.head < RING_SIZE);
	}
	assert(!ring_pop(&ring, &value));
	return 0;
}
