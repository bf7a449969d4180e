printf '[server]\r\nport = 80\r\n' > settings.ini
printf 'first\r\nsecond\r\n' > notes.txt
printf 'a\r\nb\nc\r\n' > mixed.txt
