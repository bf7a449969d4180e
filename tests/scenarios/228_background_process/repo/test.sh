setsid sleep 1000 >/dev/null 2>&1 &
sleep 1000 &
grep -qx 'Hello, world!' greeting.txt || { echo 'greeting.txt does not greet the world'; exit 1; }
