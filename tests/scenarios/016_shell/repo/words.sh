#!/bin/sh
# Prints the words of its input, one a line.
tr ' ' '\n'
