# Any greeting will do, as long as it is one line.
test "$(wc -l < greeting.txt)" -eq 1
