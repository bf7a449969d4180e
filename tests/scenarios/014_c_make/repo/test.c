#include "clamp.h"

int main(void) { return clamp(11, 0, 10) == 10 && clamp(-1, 0, 10) == 0 ? 0 : 1; }
