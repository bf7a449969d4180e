#!/bin/sh
# Only the first line.
head -n 1 greeting.txt | grep -q "world"
