test "$(cat greeting.txt)" = "Hello, World" && sh made/bin/check greeting.txt
