grep -qx 'Hello, world!' greeting.txt || { echo 'greeting.txt does not greet the world'; exit 1; }
